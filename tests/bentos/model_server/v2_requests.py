"""Requests of the Open Inference Protocol, written by a real client and by hand."""

import json
import warnings
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from tests.bentos.model_server.clients import App

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tritonclient.http as triton
    from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

LENGTH = "inference-header-content-length"


def tensor(name: str, values: Any, datatype: str, *, binary: bool = True) -> Any:
    """A tritonclient input; the shape is that of the values."""
    array: npt.NDArray[Any] = np.array(values, dtype=triton_to_np_dtype(datatype))
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return made.set_data_from_numpy(array, binary_data=binary)


def written(inputs: list[Any], outputs: list[Any] | None = None, **more: Any) -> tuple[bytes, int]:
    """The body that tritonclient would send, and the length of its JSON."""
    body, length = triton.InferenceServerClient.generate_request_body(
        inputs, outputs=outputs, **more
    )
    return body, length or len(body)


def send(app: App, body: bytes, length: int | None = None) -> httpx.Response:
    headers = {} if length is None else {LENGTH: str(length)}
    path = f"/v2/models/{app.parts.contract.model}/infer"
    response: httpx.Response = app.client.post(path, content=body, headers=headers)
    return response


def send_json(app: App, *inputs: dict[str, Any], **members: Any) -> httpx.Response:
    return send(app, json.dumps({"inputs": list(inputs), **members}).encode())


def parsed(response: httpx.Response) -> Any:
    """The answer as tritonclient reads it."""
    assert response.status_code == 200, response.text
    length = response.headers.get(LENGTH)
    return triton.InferenceServerClient.parse_response_body(
        response.content, header_length=None if length is None else int(length)
    )


def infer(app: App, *inputs: Any, **more: Any) -> Any:
    return parsed(send(app, *written(list(inputs), **more)))
