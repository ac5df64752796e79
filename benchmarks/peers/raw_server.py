"""The limit: uvicorn and one ASGI function, unnamed values, nothing checked, nothing counted."""

import os
from typing import Any

import msgspec
import uvicorn
from onnx_model import OnnxModel

model = OnnxModel()
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json")],
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Any path is the prediction."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    answer = msgspec.json.encode(model.score([msgspec.json.decode(body)]))
    await send(START | {"headers": [*START["headers"], (b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(os.environ["BENCH_PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        lifespan="off",
    )
