"""Batch jobs of small real models, and what came out of them."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bentos.model_server.bundle import Bundle, Limits
from bentos.model_server.certificate import decode_certificate
from bentos.model_server.contract import decode_contract
from deploy.release import Release
from orchestration.batch.documents import Manifest
from orchestration.batch.job import JobRequest, Watch, run_release
from orchestration.batch.publish import read_manifest
from orchestration.batch.storage_folder import Folder
from serving_config.batch import BatchJobs, BatchLimits
from serving_config.schema import Configuration, Environment, Model, Platform
from tests.bentos.model_server import models

IRIS = models.IRIS
PART_ROWS = 1000
ADDED = [
    "prediction",
    *(f"probability_{species}" for species in models.SPECIES),
    "model_version",
    "onnx_sha256",
    "scored_at",
]


@cache
def iris(version: int = 3) -> models.Parts:
    return models.iris(version=version)


@cache
def petal_width() -> models.Parts:
    return models.petal_width()


def stored(folder: Path) -> models.Parts:
    """As another process wrote it: conversion does not give the same bytes twice."""
    return models.Parts(
        (folder / "model.onnx").read_bytes(),
        decode_contract((folder / "contract.json").read_bytes()),
        decode_certificate((folder / "certificate.json").read_bytes()),
    )


def release(parts: models.Parts) -> Release:
    digest = hashlib.sha256(parts.onnx).hexdigest()
    bundle = Bundle(parts.contract, parts.certificate, Limits(), digest, "d" * 64)
    return Release(f"{parts.contract.model}:{'d' * 12}", bundle, parts.certificate)


def configuration(threads: int = 1) -> Configuration:
    limits = BatchLimits(threads=threads, part_rows=PART_ROWS)
    return Configuration(
        platform=Platform(default_model="iris", batch=BatchJobs(limits=limits)),
        environments={name: Environment(name=name) for name in ("staging", "production")},
        models={"iris": Model(name="iris"), "petal-width": Model(name="petal-width")},
    )


def flowers(rows: int, seed: int = 0) -> pa.Table:
    """Each 10th flower has a petal of infinite width."""
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {"flower": pa.array(range(rows), pa.int64())}
    columns |= {name: random.uniform(0.1, 8, rows) for name in IRIS}
    columns["petal_width"][9::10] = np.inf
    return pa.table(columns | {"note": [f"note {row}" for row in range(rows)]})


def write_flowers(folder: Path, rows: int = 3500, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(flowers(rows, seed), folder / "a.parquet", row_group_size=PART_ROWS)
    return folder


def run(
    folder: Path,
    source: object,
    output: object,
    parts: models.Parts | None = None,
    watch: Watch | None = None,
    threads: int = 1,
    **request: Any,
) -> Manifest:
    """folder: where the model's files go."""
    parts = parts or iris()
    model = folder / f"model-{parts.contract.model}-{parts.contract.version}"
    if not model.exists():
        parts.write(model)
    asked = JobRequest(parts.contract.model, str(source), str(output), **request)
    return run_release(
        release(parts), model, asked, configuration(threads), folder / "features", watch
    )


def rows_of(output: object, *, without: str = "scored_at") -> list[dict[str, Any]]:
    """Of the whole result, as its readers find it."""
    folder = Folder(str(output))
    tables = [
        pq.read_table(pa.BufferReader(folder.read(name)))
        for name in folder.files()
        if name.startswith("part-")
    ]
    return pa.concat_tables(tables).drop_columns([without]).to_pylist()


def require_whole(output: Path | str, rows: int = 3500) -> Manifest:
    """Every flower once, every file as the manifest has it, and nothing else."""
    manifest = read_manifest(Folder(str(output)))
    assert manifest is not None
    assert (manifest.rows_in, manifest.rows_out, manifest.rejects) == (
        rows,
        rows - rows // 10,
        rows // 10,
    )
    folder = Folder(str(output))
    files = [*manifest.files, *manifest.rejects_files]
    assert folder.files() == sorted(["_manifest.json", *(file.path for file in files)])
    for file in files:
        assert (folder.size(file.path), folder.sha256(file.path)) == (file.size, file.sha256)
    scored = [row["flower"] for row in rows_of(output)]
    assert scored == [row for row in range(rows) if row % 10 != 9]
    return manifest


def leftovers(folder: Path) -> list[str]:
    """What lies in a folder and should not."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]
