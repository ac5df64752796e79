"""BentoML's own adaptive batching, without its metrics, access log and tracing."""

import bentoml
import numpy as np
from onnx_model import OnnxModel


@bentoml.service(
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Classifier:
    """Rows of 30 unnamed values."""

    def __init__(self) -> None:
        self.model = OnnxModel()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, rows: np.ndarray) -> list[list[float]]:
        """The probabilities of each row."""
        return self.model.score(rows)[1]
