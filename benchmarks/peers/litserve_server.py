"""LitServe with its batching."""

import os
from typing import Any

import litserve
from onnx_model import OnnxModel


class Classifier(litserve.LitAPI):
    """One row of 30 unnamed values a request."""

    def setup(self, device: str) -> None:
        """Called in the worker."""
        self.model = OnnxModel()

    def decode_request(self, request: dict[str, Any]) -> list[float]:
        """The row."""
        row: list[float] = request["row"]
        return row

    def batch(self, inputs: list[list[float]]) -> list[list[float]]:
        """The default would make arrays, which OnnxModel does itself."""
        return inputs

    def predict(self, rows: list[list[float]]) -> list[list[float]]:
        """A batch."""
        return self.model.score(rows)[1]

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """One item for each request."""
        return output

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        """The answer."""
        return {"probabilities": output}


if __name__ == "__main__":
    api = Classifier(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
