"""Answers of the control API, and the line in the log that each change gets."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from deploy.control.control import Caller
from deploy.control.documents import Changed, Split
from deploy.events import Event, State

logger = logging.getLogger("slipway.control")


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def split_of(state: State) -> Split:
    """The split of a state."""
    weights = {f"v{live.label}": live.weight for live in state.live}
    return Split(state.model, state.environment, state.generation, weights)


def etag(state: State) -> dict[str, str]:
    """The generation, for If-Match."""
    return {"ETag": f'"{state.generation}"'}


def changed(event: Event, caller: Caller, document: Any = None) -> Response:
    """A change that was made: logged with who made it, and answered; document: with what."""
    split = split_of(event.state)
    log(caller, event.action, event.environment, event.model, split.weights)
    return reply(document or Changed(event, split), headers=etag(event.state))


def log(caller: Caller, action: str, environment: str, model: str, to: Any) -> None:
    """One line: who has changed what."""
    fields = {
        "actor": caller.name,
        "action": action,
        "environment": environment,
        "model": model,
        "to": to,
        "request_id": caller.request_id,
    }
    logger.info("%s: %s %s", caller.name, action, model, extra={"fields": fields})
