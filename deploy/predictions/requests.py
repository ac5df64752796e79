"""Single records of the prediction log: one request's, for a receipt; the last ones, for replay."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from bentos.model_server.contract import Contract
from deploy.home import Home
from deploy.predictions.areas import Area, prediction_area
from deploy.predictions.reader import CLIENTS
from deploy.predictions.scan import Filter, scan
from deploy.predictions.tables import FEATURE, PROBABILITY
from serving_config.schema import Configuration

_AROUND = timedelta(minutes=1)


class LoggedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a request, as the log has it. features: what may be kept of them; entities,
    lookups: JSON texts, see docs/predictions.md."""

    environment: str
    model: str
    version: str
    onnx_sha256: str
    time: datetime
    row: int
    status: int
    latency_ms: float
    source: str
    features: dict[str, Any] = {}
    prediction: Any = None
    probabilities: dict[str, float] = {}
    entities: str | None = None
    lookups: str | None = None


def find_request(
    home: Home,
    configuration: Configuration,
    request_id: str,
    times: Sequence[datetime] = (),
) -> list[LoggedRow]:
    """The rows of all requests that had the id, sorted by time and row; mirrored copies, too.

    times: about when they came; without any the whole log is read, which may take its time.
    """
    area = prediction_area(home, configuration.platform.predictions)
    since, until = (min(times) - _AROUND, max(times) + _AROUND) if times else (None, None)
    which = Filter(since, until, request_id=request_id)
    found = [
        _logged(row, model, environment)
        for model, environment in _places(area)
        for table in scan(area, model, environment, which)
        for row in table.to_pylist()
    ]
    return sorted(found, key=lambda item: (item.time, item.row))


def _places(area: Area) -> list[tuple[str, str]]:
    """(model, environment) of all there is."""
    segments = ((path.name, path.parent.name) for path in area.segments.glob("*/*"))
    return sorted({*area.store().places(), *segments})


def _logged(row: dict[str, Any], model: str, environment: str) -> LoggedRow:
    def named(prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): value
            for name, value in row.items()
            if name.startswith(prefix) and value is not None
        }

    return LoggedRow(
        environment=environment,
        model=model,
        version=row["label"],
        onnx_sha256=row["onnx_sha256"],
        time=row["time"],
        row=row["row"],
        status=row["status"],
        latency_ms=round(row["latency_ms"], 3),
        source=row["source"],
        features=named(FEATURE),
        prediction=row["prediction"],
        probabilities=named(PROBABILITY),
        entities=row["entities"],
        lookups=row["lookups"],
    )


def recent_rows(
    home: Home,
    configuration: Configuration,
    model: str,
    environment: str,
    contract: Contract,
    count: int,
) -> list[dict[str, Any]]:
    """The inputs of about the last `count` rows that clients got an answer for, the newest last,
    as a request would name them.

    None where the log may not keep an input of the contract, or keeps its hash.
    """
    masked = configuration.models[model].prediction_log
    if {*masked.never, *masked.hashed} & {field.name for field in contract.inputs}:
        return []
    area = prediction_area(home, configuration.platform.predictions)
    columns = ["time", "source", "status", *(f"{FEATURE}{item.name}" for item in contract.inputs)]
    which = Filter(sources=CLIENTS, status=200)
    found: list[dict[str, Any]] = []
    for table in scan(area, model, environment, which, columns):
        if set(columns) <= set(table.column_names):
            last = table.sort_by("time").slice(max(0, table.num_rows - count))
            found = [*_inputs(last, contract), *found]
        if len(found) >= count:
            break
    return found[-count:]


def _inputs(table: Any, contract: Contract) -> Iterator[dict[str, Any]]:
    """Rows that have all that is required."""
    required = {field.name for field in contract.inputs if field.required}
    names = [field.name for field in contract.inputs]
    for row in table.select([f"{FEATURE}{name}" for name in names]).to_pylist():
        given = {name: row[f"{FEATURE}{name}"] for name in names}
        given = {name: value for name, value in given.items() if value is not None}
        if required <= given.keys():
            yield given
