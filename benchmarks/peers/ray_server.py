"""Ray Serve: one replica, with its batching."""

import os
import signal
from typing import Any

import ray
from onnx_model import OnnxModel
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=256)
class Classifier:
    """One row of 30 unnamed values a request."""

    def __init__(self) -> None:
        self.model = OnnxModel()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def score(self, rows: list[list[float]]) -> list[list[float]]:
        """A batch."""
        return self.model.score(rows)[1]

    async def __call__(self, request: Request) -> dict[str, Any]:
        """A request."""
        return {"probabilities": await self.score((await request.json())["row"])}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    port = int(os.environ["BENCH_PORT"])
    serve.start(http_options=serve.config.HTTPOptions(host="127.0.0.1", port=port))
    serve.run(Classifier.bind())
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
