"""The model as every peer runs it: ONNX Runtime with one thread, labels and probabilities."""

import os

import numpy as np
import onnxruntime


class OnnxModel:
    """The file that BENCH_ONNX names."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["BENCH_ONNX"], options, providers=["CPUExecutionProvider"]
        )

    def score(self, rows: object) -> tuple[list[int], list[list[float]]]:
        """One label and the probabilities of both classes for each row."""
        matrix = np.asarray(rows, dtype=np.float32)
        labels, probabilities = self._session.run(None, {"input": matrix})
        return labels.tolist(), probabilities.tolist()
