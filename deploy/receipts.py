"""Prediction receipts: what stands behind one answer, from the logs, the ledger and the Bento."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from deploy.home import Home
from deploy.ledger import Ledger
from deploy.log_search import GatewayLine, RequestLine, ServerLine, find_lines, log_files, log_names
from deploy.logs import MAX_BYTES
from deploy.provenance import Deployment, served_by
from serving_config.schema import Configuration

_GATEWAY = "gateway-access"
# What the gateway's log holds of an id, and a model server takes.
_LONGEST_ID = 128
_ONLY_SERVER = "only the model server's log has it"


class UnknownRequestError(LookupError):
    """No log line has the request."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. time: when the request came (of a server's line alone, when it was answered).

    details: why the gateway answered by itself, in Envoy's words. caller: the key's name; caller,
    rows and trace_id are the model server's. deployment: None where no version answered. notes:
    what could not be found.
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
    notes: tuple[str, ...] = ()


def receipt(
    home: Home, ledger: Ledger, request_id: str, configuration: Configuration | None = None
) -> tuple[Receipt, ...]:
    """One for each request that had the id (a client may use one again), newest last; never none.

    configuration: for links to MLflow and Dagster. Raises UnknownRequestError, LedgerError, and
    OSError for a log that cannot be read.
    """
    if not 0 < len(request_id) <= _LONGEST_ID:
        raise UnknownRequestError(
            f"a request id has 1 to {_LONGEST_ID} characters, this one has {len(request_id)}"
        )
    lines = find_lines(log_files(home.logs, _GATEWAY), request_id, GatewayLine)
    receipts = [_of_gateway(home, line) for line in lines] or _of_servers(home, request_id)
    if not receipts:
        raise UnknownRequestError(
            f"no log line has request {request_id[:40]!r}: a line is written about a second after "
            f"the answer, {home.logs} keeps the last {MAX_BYTES >> 20} MB or more of each log, and "
            "gateway.access_log may be off"
        )
    events = ledger.events()
    return tuple(
        _with_deployment(item, *served_by(item.server, item.time, events, home, configuration))
        if item.server is not None and item.answered_by == "server"
        else item
        for item in receipts
    )


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


def _nearest(lines: Sequence[ServerLine], moment: datetime) -> ServerLine | None:
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
