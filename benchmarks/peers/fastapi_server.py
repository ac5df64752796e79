"""FastAPI in front of ONNX Runtime: the same named fields, validated by pydantic."""

import os
from operator import attrgetter
from typing import Any

import uvicorn
from fastapi import FastAPI
from onnx_model import OnnxModel
from pydantic import BaseModel, ConfigDict, FiniteFloat, create_model

NAMES = [f"f{i}" for i in range(30)]
fields: dict[str, Any] = dict.fromkeys(NAMES, (FiniteFloat, ...))
Features = create_model("Features", __config__=ConfigDict(extra="forbid"), **fields)
values = attrgetter(*NAMES)
model = OnnxModel()
app = FastAPI()


class Request(BaseModel):
    """The body."""

    model_config = ConfigDict(extra="forbid")
    features: Features  # type: ignore[valid-type]


class Answer(BaseModel):
    """The answer."""

    prediction: int
    probabilities: dict[str, float]


@app.post("/predict")
async def predict(request: Request) -> Answer:
    """One row. `async`: a thread for each request would cost more than the inference."""
    labels, probabilities = model.score([values(request.features)])
    by_label = {"0": probabilities[0][0], "1": probabilities[0][1]}
    return Answer(prediction=labels[0], probabilities=by_label)


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(os.environ["BENCH_PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
    )
