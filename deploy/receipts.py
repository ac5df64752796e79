"""Prediction receipts: what stands behind one answer, from the access logs, the prediction log, the
ledger and the Bento."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeVar

import msgspec

from deploy.events import Event
from deploy.gateway.routes import cluster_name
from deploy.history import moment_of
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.log_search import GatewayLine, RequestLine, ServerLine, find_lines, log_files, log_names
from deploy.logs import MAX_BYTES
from deploy.predictions.requests import LoggedRow, find_request
from deploy.provenance import Deployment, served_by
from serving_config.schema import Configuration

_GATEWAY = "gateway-access"
# What the gateway's log holds of an id, and a model server takes.
_LONGEST_ID = 128
_ONLY_SERVER = "only the model server's log has it"
_ONLY_ROWS = "the access logs do not have it (any more): this is what the prediction log has"
_COPY = "it was a copy of a request, answered for nobody"
_ROWS_SHOWN = 20
_Timed = TypeVar("_Timed", "ServerLine", "Receipt")


class UnknownRequestError(LookupError):
    """Neither an access log nor the prediction log has the request."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. time: when the request came (of a server's line alone, when it was answered).

    details: why the gateway answered by itself, in Envoy's words. caller: the key's name; caller,
    rows and trace_id are the model server's. deployment: None where no version answered. logged:
    its first twenty rows in the prediction log. notes: what could not be found.
    """

    request_id: str
    time: datetime
    method: str | None
    path: str | None
    status: int
    duration_ms: float | None
    answered_by: Literal["server", "gateway"]
    server: str | None
    details: str | None = None
    caller: str | None = None
    rows: int | None = None
    trace_id: str | None = None
    deployment: Deployment | None = None
    logged: tuple[LoggedRow, ...] = ()
    notes: tuple[str, ...] = ()


def receipt(
    home: Home, ledger: Ledger, request_id: str, configuration: Configuration | None = None
) -> tuple[Receipt, ...]:
    """One for each request that had the id (a client may use one again), newest last; never none.

    configuration: for links to MLflow and Dagster, and the prediction log. Raises
    UnknownRequestError, LedgerError, and OSError for a log that cannot be read.
    """
    if not 0 < len(request_id) <= _LONGEST_ID:
        raise UnknownRequestError(
            f"a request id has 1 to {_LONGEST_ID} characters, this one has {len(request_id)}"
        )
    lines = find_lines(log_files(home.logs, _GATEWAY), request_id, GatewayLine)
    receipts = [_of_gateway(home, line) for line in lines] or _of_servers(home, request_id)
    events = ledger.events()
    rows: list[LoggedRow] = []
    if configuration is not None:
        times = [item.time for item in receipts]
        rows = find_request(home, configuration, request_id, times)
    if not receipts:
        receipts = _of_rows(request_id, rows, events)
    if not receipts:
        raise UnknownRequestError(
            f"no log line has request {request_id[:40]!r}: a line is written about a second after "
            f"the answer, {home.logs} keeps the last {MAX_BYTES >> 20} MB or more of each log, and "
            "gateway.access_log may be off; nor has the prediction log a row of it"
        )
    found = [
        _with_deployment(item, *served_by(item.server, item.time, events, home, configuration))
        if item.server is not None and item.answered_by == "server"
        else item
        for item in receipts
    ]
    return tuple(_with_rows(item, rows, found) for item in found)


def _of_rows(request_id: str, rows: Sequence[LoggedRow], events: Sequence[Event]) -> list[Receipt]:
    """Where no access log has it (any more): one for each version and time."""
    requests: dict[tuple[object, ...], list[LoggedRow]] = {}
    for row in rows:
        key = (row.time, row.environment, row.model, row.version, row.source)
        requests.setdefault(key, []).append(row)
    return [_of_request(request_id, own, events) for own in requests.values()]


def _of_request(request_id: str, rows: Sequence[LoggedRow], events: Sequence[Event]) -> Receipt:
    first = rows[0]
    server = _server_of(first, events)
    unknown = f"the ledger never had {first.model} {first.version} live in {first.environment}"
    return Receipt(
        request_id=request_id,
        time=first.time,
        method=None,
        path=None,
        status=first.status,
        duration_ms=first.latency_ms,
        answered_by="server",
        server=server,
        rows=len(rows),
        logged=tuple(rows[:_ROWS_SHOWN]),
        notes=(
            _ONLY_ROWS,
            *((_COPY,) if first.source == "mirror" else ()),
            *((unknown,) if server is None else ()),
        ),
    )


def _server_of(row: LoggedRow, events: Iterable[Event]) -> str | None:
    """The gateway's name for the server; the last one until then, of several builds."""
    found = None
    for event in events:
        for live in (
            event.live if (event.environment, event.model) == (row.environment, row.model) else ()
        ):
            if (live.label, live.onnx_sha256) == (row.version, row.onnx_sha256):
                if found is not None and moment_of(event) > row.time:
                    return found
                found = cluster_name(row.environment, row.model, live)
    return found


def _with_rows(item: Receipt, rows: Sequence[LoggedRow], receipts: Sequence[Receipt]) -> Receipt:
    """What the version's own log has of a request that an access log has, of several requests to
    the version with that id the rows that came next to it."""
    if item.deployment is None or item.logged:
        return item
    of = item.deployment
    server = (of.environment, of.model, of.version)
    others = [other for other in receipts if other.server == item.server]
    own = [
        row
        for row in rows
        if (row.environment, row.model, row.version) == server
        and _nearest(others, row.time) is item
    ]
    return msgspec.structs.replace(item, logged=tuple(own[:_ROWS_SHOWN]))


def _of_line(
    line: RequestLine, answered_by: Literal["server", "gateway"], server: str | None, *notes: str
) -> Receipt:
    return Receipt(
        request_id=line.request_id,
        time=line.time,
        method=line.method,
        path=line.path,
        status=line.status,
        duration_ms=line.duration_ms,
        answered_by=answered_by,
        server=server,
        notes=notes,
    )


def _of_gateway(home: Home, line: GatewayLine) -> Receipt:
    found = _of_line(line, "server" if line.details == "via_upstream" else "gateway", line.server)
    if line.server is None or found.answered_by == "gateway":
        note = "the gateway answered by itself, no version did"
        return msgspec.structs.replace(found, details=line.details, notes=(note,))
    answered = line.time + timedelta(milliseconds=line.duration_ms or 0)
    own = _nearest(_server_lines(home, line.server, line.request_id), answered)
    if own is None:
        note = f"{line.server}'s log does not have it (any more), or its access_log is off"
        return msgspec.structs.replace(found, notes=(note,))
    return _with_server_line(found, own)


def _of_servers(home: Home, request_id: str) -> list[Receipt]:
    """Where the gateway's log does not have it."""
    found = [
        _with_server_line(_of_line(line, "server", name, _ONLY_SERVER), line)
        for name in log_names(home.logs) - {_GATEWAY}
        for line in _server_lines(home, name, request_id)
    ]
    return sorted(found, key=lambda item: item.time)


def _server_lines(home: Home, server: str, request_id: str) -> list[ServerLine]:
    lines = find_lines(log_files(home.logs, server), request_id, ServerLine)
    return [line for line in lines if line.logger == "slipway.access"]


def _nearest(lines: Sequence[_Timed], moment: datetime) -> _Timed | None:
    return min(lines, key=lambda line: abs(line.time - moment), default=None)


def _with_server_line(item: Receipt, line: ServerLine) -> Receipt:
    return msgspec.structs.replace(
        item,
        caller=line.caller or None,
        rows=line.rows or None,
        trace_id=line.trace_id or None,
    )


def _with_deployment(
    item: Receipt, deployment: Deployment | None, notes: tuple[str, ...]
) -> Receipt:
    if deployment is not None and deployment.mirror and _ONLY_SERVER in item.notes:
        notes += ("the version got copies of requests then: this may be one, answered for nobody",)
    return msgspec.structs.replace(item, deployment=deployment, notes=item.notes + notes)
