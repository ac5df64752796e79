"""The rows that two versions are compared on, and what is known of their labels."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.platform import LocalPlatform
from orchestration.compare.documents import CompareError
from orchestration.compare.versions import Built
from orchestration.monitoring.contest import HOLD_OUT, LABEL, ContestError, contract_rows

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = "reference/reference.parquet"
SEED = 20260101
MAX_ROWS = 20_000


@dataclass(frozen=True)
class Table:
    """labelled: the column `label` has the truth. made_up: nothing in it ever happened, so that it
    tells agreement and speed, and no quality."""

    frame: "pd.DataFrame"
    source: str
    labelled: bool = False
    made_up: bool = False


@dataclass(frozen=True)
class Rows:
    """Rows that both contracts take, each in the order of A's and of B's inputs. labels: by row,
    None where they are not known."""

    a: list[Any]
    b: list[Any]
    labels: list[Any] | None
    left_out: int


def known_rows(platform: LocalPlatform, newer: Built) -> Table:
    """What the newer version's training run held out, else its reference, else made-up rows.

    A run of the platform's own MLflow is read from the disk, so that nothing has to be up.
    """
    import pandas as pd

    run_id = newer.contract.run_id
    for artifact, what in ((HOLD_OUT, "the rows held out"), (REFERENCE, "the reference")):
        with tempfile.TemporaryDirectory() as scratch:
            path = _artifact(platform, run_id, artifact, Path(scratch)) if run_id else None
            if path is None:
                continue
            frame = pd.read_parquet(path)
        labelled = artifact == HOLD_OUT and LABEL in frame
        frame = frame[frame[LABEL].notna()] if labelled else frame
        if len(frame) > MAX_ROWS:
            frame = frame.sample(MAX_ROWS, random_state=0)
        return Table(frame, f"{what} by the training run of version {newer.number}", labelled)
    return _made_up(newer)


def _artifact(platform: LocalPlatform, run_id: str, artifact: str, scratch: Path) -> Path | None:
    settings = platform.configuration.platform.mlflow
    if not settings.tracking_uri:
        # as `mlflow server --artifacts-destination` lays them out: <experiment>/<run>/artifacts
        store = platform.home.mlflow / "artifacts"
        return next(store.glob(f"*/{run_id}/artifacts/{artifact}"), None)
    from orchestration.resources.registry import Registry, RegistryError
    from orchestration.training import PROBE_RETRIES, PROBE_TIMEOUT_SECONDS, request_limits

    try:
        with request_limits(PROBE_TIMEOUT_SECONDS, PROBE_RETRIES):
            registry = Registry(tracking_uri=settings.uri)
            return registry.download_run_artifact(run_id, artifact, scratch)
    except RegistryError as error:
        raise CompareError(f"{error}; it has the rows to compare on") from error


def _made_up(newer: Built) -> Table:
    import pandas as pd

    from orchestration.verification.rows import build_space

    space = build_space(newer.contract, None, SEED)
    names = [field.name for field in newer.contract.inputs]
    frame = pd.DataFrame(space.reference, columns=names, dtype=object)
    return Table(frame, f"made-up rows: the run of version {newer.number} left none", made_up=True)


def common_rows(a: Built, b: Built, table: Table) -> Rows:
    """CompareError where the two have no row in common."""
    try:
        given: Sequence[list[Any]] = [contract_rows(s.contract, table.frame) for s in (a, b)]
    except ContestError as error:
        raise CompareError(str(error)) from error
    both = [i for i, pair in enumerate(zip(*given, strict=True)) if None not in pair]
    if not both:
        raise CompareError(f"of {len(table.frame)} rows ({table.source}) both versions take none")
    labels = table.frame[LABEL].iloc[both].tolist() if table.labelled else None
    first, second = ([rows[i] for i in both] for rows in given)
    return Rows(first, second, labels, len(table.frame) - len(both))
