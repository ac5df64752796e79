"""Iris in a real registry, exported, with a prediction log of one's own making."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from bentos.model_server.answers import label_key
from bentos.model_server.session import ModelSession
from bentos.prediction_log.segments import MAGIC, Block, Header, LabelBlock, frame
from deploy.versions import VersionFolder
from orchestration.export import export, load_native
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.training import train
from serving_config.load import FOLDER, load
from serving_config.schema import Model

IRIS = Model(name="iris", training="orchestration.examples.iris:train")


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass
class World:
    serving: Serving
    registry: Registry
    segments: int = 0

    @property
    def folder(self) -> VersionFolder:
        return self.serving.folder("iris", 1)

    def rows(self, count: int, shift: float = 0.0) -> pd.DataFrame:
        """Irises, drawn from the training rows; shift: in centimetres."""
        from orchestration.examples.iris import split

        known, *_ = split()
        return known.sample(count, replace=True, random_state=count).reset_index(drop=True) + shift

    def serve(
        self,
        rows: pd.DataFrame,
        label: str = "1",
        environment: str = "production",
        hours_ago: float = 0.5,
        **changes: Any,
    ) -> list[str]:
        """A segment with the version's own answers to the rows; the requests' ids."""
        contract = self.folder.contract()
        session = ModelSession(self.folder.onnx_bytes(), contract)
        answers = session.predict(list(rows.itertuples(index=False, name=None)))
        assert answers.probabilities is not None
        count = len(rows)
        self.segments += 1
        ids = [f"{self.segments}-{number}" for number in range(count)]
        header = Header(
            kind="predictions",
            environment=environment,
            model="iris",
            label=label,
            onnx_sha256=contract.onnx_sha256,
            columns=tuple(rows.columns),
            dtypes=tuple("float64" for _ in rows.columns),
            classes=tuple(label_key(name) for name in contract.outputs.labels),
        )
        at = datetime.now(UTC) - timedelta(hours=hours_ago)
        fields: dict[str, Any] = {
            "request_id": ids,
            "row": [0] * count,
            "time": [micros(at)] * count,
            "status": [200] * count,
            "latency_us": [900] * count,
            "source": ["client"] * count,
            "features": [rows[name].tolist() for name in rows.columns],
            "prediction": answers.labels,
            "probabilities": answers.probabilities.T.astype(float).tolist(),
            "entities": [None] * count,
            "lookups": [None] * count,
        }
        self._write(header, Block(**fields | changes), self.serving.paths.predictions / "segments")
        return ids

    def label(
        self, ids: Sequence[str], labels: Sequence[Any], environment: str = "production"
    ) -> None:
        header = Header(kind="labels", environment=environment, model="iris")
        count = len(ids)
        block = LabelBlock(
            request_id=list(ids),
            row=[0] * count,
            label=list(labels),
            time=[micros(datetime.now(UTC)) - 1_000_000] * count,
            actor=["ann"] * count,
        )
        self.segments += 1
        self._write(header, block, self.serving.paths.labels / "segments")

    def _write(self, header: Header, block: Any, root: Path) -> None:
        folder = root / header.environment / "iris"
        folder = folder / header.label if header.label else folder
        folder.mkdir(parents=True, exist_ok=True)
        data = MAGIC + frame(header) + frame(block)
        (folder / f"w-{self.segments}.seg").write_bytes(data)

    def materialize(self, assets: Any, environment: str, **tags: str) -> dg.ExecuteInProcessResult:
        job = dg.define_asset_job(
            "job", selection=dg.AssetSelection.assets(*[a.key for a in assets])
        )
        definitions = dg.Definitions(
            assets=assets,
            jobs=[job],
            resources={"registry": self.registry, "serving": self.serving},
        )
        with dg.instance_for_test() as instance:
            return definitions.resolve_job_def("job").execute_in_process(
                instance=instance, partition_key=environment, tags=tags, raise_on_error=False
            )


def make_world(root: Path) -> World:
    """Version 1 of iris, trained, registered and exported."""
    root.mkdir(exist_ok=True)
    registry = Registry(tracking_uri=f"sqlite:///{root}/mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        train(IRIS, registry.tracking_uri)
        source = registry.download("iris", 1, root / "model")
        exported = export(load_native(source, ()), load(variables={}).models["iris"], version=1)
    world = World(Serving(home=str(root), config_folder=str(FOLDER)), registry)
    world.folder.write_export(exported.model, exported.contract)
    return world


def truths(world: World, rows: pd.DataFrame, wrong: float = 0.0) -> list[str]:
    """The version's own answers, of which a share is exchanged."""
    contract = world.folder.contract()
    session = ModelSession(world.folder.onnx_bytes(), contract)
    labels = session.predict(list(rows.itertuples(index=False, name=None))).labels
    known = [str(name) for name in contract.outputs.labels]
    random = np.random.default_rng(0)
    return [
        known[(known.index(label) + 1) % 3] if random.random() < wrong else label
        for label in labels
    ]
