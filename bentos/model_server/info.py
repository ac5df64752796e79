"""What the server says about its model."""

import msgspec

from bentos.model_server.asgi import Request, Response, Route
from bentos.model_server.certificate import Comparison, HttpParity, Limits
from bentos.model_server.contract import Contract
from bentos.model_server.lifecycle import Lifecycle, LoadedModel


class CertificateSummary(msgspec.Struct, frozen=True):
    """The certificate without its rows. parity_passed: offline; http: None before a smoke test."""

    onnx_sha256: str
    parity_passed: bool
    comparisons: tuple[Comparison, ...]
    limits: Limits
    http: HttpParity | None
    golden_rows: int
    libraries: dict[str, str]
    digest: str


class Lineage(msgspec.Struct, frozen=True):
    """Where the model came from: the MLflow run and logged model, the graph, the Bento."""

    run_id: str | None
    model_id: str | None
    onnx_sha256: str
    bento: str


class ModelInfo(msgspec.Struct, frozen=True):
    """The answer of `/model/info`."""

    name: str
    version: str
    variant: str
    contract: Contract
    certificate: CertificateSummary
    lineage: Lineage


def model_info(model: LoadedModel, bento: str) -> ModelInfo:
    """Put together what is known of a loaded model."""
    contract, certificate = model.contract, model.certificate
    return ModelInfo(
        name=contract.model,
        version=str(contract.version),
        variant=contract.variant,
        contract=contract,
        certificate=CertificateSummary(
            onnx_sha256=certificate.onnx_sha256,
            parity_passed=certificate.parity_passed,
            comparisons=certificate.parity.comparisons,
            limits=certificate.parity.limits,
            http=certificate.http,
            golden_rows=len(certificate.golden.rows),
            libraries=certificate.libraries,
            digest=certificate.digest(),
        ),
        lineage=Lineage(contract.run_id, contract.model_id, contract.onnx_sha256, bento),
    )


class InfoRoutes:
    """`/model/info`."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def routes(self) -> list[Route]:
        """The routes of this file."""
        return [Route("/model/info", {"GET": self.info})]

    async def info(self, request: Request) -> Response:
        """The contract, the certificate's summary, the lineage."""
        model = self._lifecycle.require_model()
        info = model_info(model, self._lifecycle.settings.bento)
        return Response(msgspec.json.encode(info))
