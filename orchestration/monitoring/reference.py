"""The reference of a version: its training data as MLflow keeps it, with the answers it gives."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from bentos.model_server.answers import label_key
from bentos.model_server.contract import Contract
from deploy.home import write_atomically
from deploy.versions import VersionFolder
from orchestration.monitoring.drift import PREDICTION, Sample
from orchestration.resources.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

    from bentos.model_server.session import ModelSession

# Where a training run leaves the rows its versions are held against.
REFERENCE_ARTIFACT = "reference/reference.parquet"
# More rows make no score more certain.
MAX_ROWS = 100_000
_BATCH = 10_000


class _Kept(msgspec.Struct, frozen=True):
    """`reference.json`: of which graph the answers are, and which file they are in."""

    onnx_sha256: str
    sha256: str


def run_reference(registry: Registry, run_id: str | None, folder: Path) -> "pd.DataFrame | None":
    """The run's reference rows, downloaded below `folder`, or None where it left none."""
    import pandas as pd

    if not run_id:
        return None
    folder.mkdir(parents=True)
    path = registry.download_run_artifact(run_id, REFERENCE_ARTIFACT, folder)
    return pd.read_parquet(path) if path else None


def reference_sample(
    registry: Registry, registered_model: str, folder: VersionFolder
) -> Sample | None:
    """The version's, at most MAX_ROWS; kept in its folder from the first time on. None where its
    run left no reference.

    Without the rows that the contract refuses: the log never has such features.
    """
    contract = folder.contract()
    kept = _read(folder.path, contract)
    if kept is None:
        version = registry.get(registered_model, contract.version)
        with TemporaryDirectory() as scratch:
            rows = run_reference(registry, version.run_id, Path(scratch) / "reference")
        if rows is None:
            return None
        kept = _scored(rows, folder, contract)
        _write(folder.path, contract, kept)
    return Sample(kept.drop(columns=PREDICTION), kept[PREDICTION])


def _scored(rows: "pd.DataFrame", folder: VersionFolder, contract: Contract) -> "pd.DataFrame":
    from bentos.model_server.session import ModelSession

    if len(rows) > MAX_ROWS:
        rows = rows.sample(MAX_ROWS, random_state=0)
    inputs = [field.name for field in contract.inputs if field.name in rows.columns]
    rows = rows[inputs].reset_index(drop=True)
    if len(inputs) < len(contract.inputs):
        return rows.assign(**{PREDICTION: None})
    answers = predictions(ModelSession(folder.onnx_bytes(), contract), rows)
    answered = rows.assign(**{PREDICTION: answers})
    return answered[answered[PREDICTION].notna()].reset_index(drop=True)


def predictions(session: "ModelSession", rows: "pd.DataFrame") -> list[Any]:
    """As the log has them: a class as text, the value of a regression; None for a row that the
    contract refuses."""
    from orchestration.export.contract import accepts, as_scalar

    contract = session.contract
    columns = [
        [as_scalar(value, field) for value in rows[field.name].tolist()]
        for field in contract.inputs
    ]
    given = list(zip(*columns, strict=True))
    allowed = [
        number
        for number, row in enumerate(given)
        if all(accepts(f, v) for f, v in zip(contract.inputs, row, strict=True))
    ]
    answers: list[Any] = [None] * len(given)
    for start in range(0, len(allowed), _BATCH):
        batch = allowed[start : start + _BATCH]
        labels = session.predict([given[number] for number in batch]).labels
        for number, label in zip(batch, labels, strict=True):
            is_class = contract.outputs.kind == "classification"
            answers[number] = label_key(label) if is_class else float(label)
    return answers


def _read(folder: Path, contract: Contract) -> "pd.DataFrame | None":
    """What was kept, where it is whole and of this very graph."""
    import pandas as pd

    file = folder / "reference.parquet"
    try:
        kept = msgspec.json.decode((folder / "reference.json").read_bytes(), type=_Kept)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    if kept != _Kept(contract.onnx_sha256, digest):
        return None
    return pd.read_parquet(file)


def _write(folder: Path, contract: Contract, rows: "pd.DataFrame") -> None:
    data = rows.to_parquet(index=False)
    write_atomically(folder / "reference.parquet", data)
    kept = _Kept(contract.onnx_sha256, hashlib.sha256(data).hexdigest())
    write_atomically(folder / "reference.json", msgspec.json.encode(kept))
