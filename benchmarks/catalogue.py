"""The servers: ours, and its peers, each as its documentation recommends."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.models import FIELDS, Model
from benchmarks.servers import SCRIPTS, Server, Start
from deploy.home import Home
from deploy.keys import KeyStore
from deploy.processes import free_ports
from orchestration.build_bento import build_bento
from serving_config.schema import Serving


def _named(row: tuple[float, ...]) -> Any:
    return {"features": dict(zip(FIELDS, row, strict=True))}


def _by_label(answer: Any) -> list[float]:
    return [answer["probabilities"][label] for label in ("0", "1")]


@cache
def _key(home: Home) -> str:
    return KeyStore(home.create()).add("benchmark", ["predict"])


def _every_feature(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Variables and headers: keys and access log; what else there is cannot be switched off."""
    home = Home(folder / "home")
    headers = {"X-API-Key": _key(home)}
    return {"SLIPWAY_KEYS": str(home.keys), "SLIPWAY_ACCESS_LOG": "1"}, headers


@cache
def bento(model: Model, home: Path) -> str:
    """The tag of our Bento of the model, built once."""
    return build_bento(model.folder, Serving(), home).tag


def _ours(model: Model, port: int, folder: Path) -> Start:
    home = folder / "bentoml"
    variables, headers = _every_feature(folder)
    arguments = ["-m", "bentoml", "serve", bento(model, home)]
    return Start(
        [*arguments, "--host", "127.0.0.1", "--port", str(port)],
        {"BENTOML_HOME": str(home)} | variables,
        headers,
    )


def _script(name: str) -> Callable[[Model, int, Path], Start]:
    return lambda model, port, folder: Start([str(SCRIPTS / name)])


def _bentoml(model: Model, port: int, folder: Path) -> Start:
    arguments = ["-m", "bentoml", "serve", "bentoml_server:Classifier"]
    home = {"BENTOML_HOME": str(folder / "bentoml")}
    return Start([*arguments, "--host", "127.0.0.1", "--port", str(port)], home)


def _mlserver(model: Model, port: int, folder: Path) -> Start:
    grpc, metrics = free_ports(2)
    settings = {
        "HOST": "127.0.0.1",
        "HTTP_PORT": port,
        "GRPC_PORT": grpc,
        "METRICS_PORT": metrics,
        "METRICS_DIR": folder,
        "PARALLEL_WORKERS": 0,
        "DEBUG": "false",
        "MODEL_NAME": "classifier",
        "MODEL_IMPLEMENTATION": "mlserver_runtime.Classifier",
        "MODEL_MAX_BATCH_SIZE": 64,
        "MODEL_MAX_BATCH_TIME": 0.001,
    }
    variables = {f"MLSERVER_{name}": str(value) for name, value in settings.items()}
    return Start(["-m", "mlserver.cli.main", "start", str(folder)], variables)


def _mlflow(model: Model, port: int, folder: Path) -> Start:
    saved = folder / "mlflow"
    if not saved.exists():
        variables = os.environ | {"PYTHONPATH": str(SCRIPTS), "BENCH_SAVE_TO": str(saved)}
        script = str(SCRIPTS / "mlflow_save.py")
        subprocess.run([sys.executable, script], env=variables, check=True, capture_output=True)
    arguments = ["-m", "mlflow", "models", "serve", "--model-uri", str(saved)]
    return Start([*arguments, "--env-manager", "local", "--workers", "1", "--port", str(port)])


def _tensor(row: tuple[float, ...]) -> Any:
    tensor = {"name": "input", "shape": [1, len(row)], "datatype": "FP32", "data": list(row)}
    return {"inputs": [tensor]}


OURS = Server(
    "Slipway",
    "bentoml",
    _ours,
    "/predict",
    _named,
    _by_label,
    "named fields, validated; keys, batching, limits, metrics, access log, request ids",
)
RAW = Server(
    "raw uvicorn",
    "uvicorn",
    _script("raw_server.py"),
    "/",
    list,
    lambda answer: answer[1][0],
    "one ASGI function, a bare row, msgspec, nothing checked or counted",
)
FASTAPI = Server(
    "FastAPI + ONNX Runtime",
    "fastapi",
    _script("fastapi_server.py"),
    "/predict",
    _named,
    _by_label,
    "the same named fields, validated by pydantic; no access log, no metrics",
)
BENTOML = Server(
    "BentoML batching",
    "bentoml",
    _bentoml,
    "/predict",
    lambda row: {"rows": [row]},
    lambda answer: answer[0],
    "`batchable=True`, a bare row; its metrics, access log and tracing off",
)
LITSERVE = Server(
    "LitServe",
    "litserve",
    _script("litserve_server.py"),
    "/predict",
    lambda row: {"row": row},
    lambda answer: answer["probabilities"],
    "batches of at most 64, 1 ms; a bare row",
    "litserve",
)
MLSERVER = Server(
    "MLServer",
    "mlserver",
    _mlserver,
    "/v2/models/classifier/infer",
    _tensor,
    lambda answer: answer["outputs"][0]["data"],
    "batches of at most 64, 1 ms; a tensor; inference in the server's process",
    "mlserver",
)
RAY = Server(
    "Ray Serve",
    "ray",
    _script("ray_server.py"),
    "/",
    lambda row: {"row": row},
    lambda answer: answer["probabilities"],
    "one replica, batches of at most 64, 1 ms; a bare row",
    "ray",
)
MLFLOW = Server(
    "mlflow models serve",
    "mlflow",
    _mlflow,
    "/invocations",
    lambda row: {"dataframe_split": {"columns": FIELDS, "data": [row]}},
    lambda answer: answer["predictions"][0],
    "a pyfunc around the same file, `dataframe_split`",
)
SERVERS = (OURS, RAW, FASTAPI, BENTOML, LITSERVE, MLSERVER, RAY, MLFLOW)
