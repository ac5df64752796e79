"""The Open Inference Protocol v2 (KServe's REST protocol) with its binary tensor data extension.

The same model, limits and validation as `/predict`; requests and answers are tensors.
"""

import re

import msgspec

from bentos.model_server.answers import version_header
from bentos.model_server.asgi import Request, Response, Route
from bentos.model_server.codec import Row, decoded
from bentos.model_server.inference_metadata import ServerMetadata, model_metadata
from bentos.model_server.inference_request import HEADER_LENGTH, InferRequest, read_request
from bentos.model_server.inference_response import (
    PREDICTION,
    PROBABILITIES,
    OutputTensors,
    requested,
)
from bentos.model_server.lifecycle import Lifecycle, LoadedModel
from bentos.model_server.problems import clean, unknown_model
from bentos.model_server.tensor_rows import TensorRows
from bentos.model_server.tensors import datatype_of

MODEL_PATH = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?P<versions>/versions/(?P<version>[^/]+))?(?P<rest>/\w+)?"
)
MODEL, VERSIONS = "/v2/models/{model}", "/versions/{version}"


class ModelTensors:
    """A loaded model with what reads and writes its tensors."""

    def __init__(self, model: LoadedModel) -> None:
        contract, limits = model.contract, model.limits
        self.model = model
        self.rows = TensorRows(contract, model.codec.fields, limits.max_rows)
        # What the graph answers to a golden row, not what the contract calls its labels.
        golden = model.certificate.golden.single[0]
        datatypes = {PREDICTION: datatype_of(golden.prediction)}
        if contract.outputs.probabilities is not None:
            datatypes[PROBABILITIES] = "FP64"
        self.outputs = OutputTensors(contract.model, version_header(contract), datatypes)
        self.metadata = msgspec.json.encode(model_metadata(contract, self.rows, datatypes))


def require_tensors(request: Request) -> None:
    """A 415 Problem for a body that is neither JSON nor binary, or compressed.

    Clients of this protocol send no Content-Type or `application/octet-stream`.
    """
    media = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    # A web page may send a body without a type anywhere, and says where it comes from.
    bare = media == b"" and b"origin" not in request.headers
    if media != b"application/octet-stream" and not bare:
        request.require_json()
    request.require_identity()


class OpenInferenceRoutes:
    """`/v2`: server, model and their health; inference."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._tensors: ModelTensors | None = None
        handlers = {
            "": {"GET": self.metadata},
            "/ready": {"GET": self.model_ready},
            "/infer": {"POST": self.infer},
        }
        self._model_routes = {
            (versions, rest): Route(f"{MODEL}{versions}{rest}", methods, rest == "/infer")
            for versions in ("", VERSIONS)
            for rest, methods in handlers.items()
        }

    def routes(self) -> list[Route]:
        """The routes whose path is known before the model is."""
        return [
            Route("/v2", {"GET": self.server}),
            Route("/v2/health/live", {"GET": self.live}),
            Route("/v2/health/ready", {"GET": self.ready}),
        ]

    def route(self, path: str) -> Route | None:
        """The route of a path with a model in it; its `path` is the pattern."""
        if (match := MODEL_PATH.fullmatch(path)) is None:
            return None
        versions = VERSIONS if match["versions"] else ""
        return self._model_routes.get((versions, match["rest"] or ""))

    async def server(self, request: Request) -> Response:
        """Server metadata."""
        metadata = ServerMetadata(version=self._lifecycle.settings.bento)
        return Response(msgspec.json.encode(metadata))

    async def live(self, request: Request) -> Response:
        """200 while the process answers at all."""
        return Response(b'{"live":true}')

    async def ready(self, request: Request) -> Response:
        """200 while requests should be sent here, else 503 with the reason."""
        if (problem := self._lifecycle.not_ready()) is not None:
            raise problem
        return Response(b'{"ready":true}')

    async def model_ready(self, request: Request) -> Response:
        """As the server's, for the model and version that it serves."""
        contract = self._model(request).model.contract
        if (problem := self._lifecycle.not_ready()) is not None:
            raise problem
        return Response(msgspec.json.encode({"name": contract.model, "ready": True}))

    async def metadata(self, request: Request) -> Response:
        """Inputs and outputs with datatypes and shapes."""
        return Response(self._model(request).metadata)

    async def infer(self, request: Request) -> Response:
        """Tensors in, tensors out."""
        tensors = self._model(request)
        require_tensors(request)
        body = await request.body(tensors.model.limits.max_body_bytes)
        length = request.headers.get(HEADER_LENGTH.lower().encode())

        def decode(body: bytes) -> tuple[InferRequest, dict[str, bool], list[Row]]:
            parsed, binary = read_request(body, length)
            wanted = requested(parsed, tensors.outputs.datatypes)
            return parsed, wanted, tensors.rows.decode(parsed.inputs, binary)

        parsed, wanted, rows = await decoded(decode, body)
        scored = await tensors.model.infer(rows, request)
        return tensors.outputs.encode(scored, parsed.id, wanted)

    def _model(self, request: Request) -> ModelTensors:
        """The model, 503 where there is none; 404 where the path names another."""
        model = self._lifecycle.require_model()
        if self._tensors is None or self._tensors.model is not model:
            self._tensors = ModelTensors(model)
        match = MODEL_PATH.fullmatch(request.path)
        contract = model.contract
        label = version_header(contract)
        is_served = match and match["model"] == contract.model and match["version"] in (None, label)
        if not is_served:
            what = clean(request.path.removeprefix("/v2/"), 200)
            raise unknown_model(what, contract.model, label)
        return self._tensors
