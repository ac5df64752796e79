"""MLServer's custom runtime, with its adaptive batching. Its settings are variables."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from onnx_model import OnnxModel


class Classifier(MLModel):
    """A tensor (rows, 30) in, one of (rows, 2) out."""

    async def load(self) -> bool:
        """Called once."""
        self.model = OnnxModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """A batch."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        probabilities = np.array(self.model.score(rows)[1])
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, outputs=[output])
