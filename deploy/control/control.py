"""What the control API works on, and what its routes are given of it."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Request

from bentos.model_server import asgi
from bentos.model_server.keys import Keys
from bentos.model_server.problems import FieldError, Problem, clean, overloaded
from deploy.control.alert import Alert
from deploy.control.observer import Observer
from deploy.control.usage import Usage
from deploy.dagster_client import DagsterClient
from deploy.events import State
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.targets.base import Target
from deploy.traffic import Actor, Traffic
from serving_config.schema import Configuration

MAX_CHANGES = 8
_TAG = re.compile(r'"(\d{1,18})"')


@dataclass(frozen=True)
class Control:
    """alerts: those there are now; usage: CPU and memory of a live server, by cluster name."""

    home: Home
    configuration: Configuration
    ledger: Ledger
    target: Target
    traffic: Traffic
    observer: Observer
    keys: Keys
    dagster: DagsterClient
    usage: Callable[[str], Usage]
    alerts: Callable[[], Sequence[Alert]]
    changes: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_CHANGES)
    )

    def require(self, environment: str, model: str) -> None:
        """A 404 Problem unless both are configured."""
        for kind, name, known in (
            ("model", model, self.configuration.models),
            ("environment", environment, self.configuration.environments),
        ):
            if name not in known:
                raise Problem(
                    HTTPStatus.NOT_FOUND,
                    f"unknown-{kind}",
                    f"there is no {kind} {clean(name, 64)}; {kind}s: {', '.join(sorted(known))}",
                )

    def state(self, environment: str, model: str) -> State:
        """The ledger's; a 404 Problem where it cannot have one."""
        self.require(environment, model)
        return self.ledger.state(environment, model)


@dataclass(frozen=True)
class Caller:
    """Who asks: the key's name, what stands in If-Match, and the request's id."""

    name: str
    if_match: str | None
    request_id: str

    @property
    def actor(self) -> Actor:
        """As the ledger will say."""
        return Actor(self.name)

    def expected(self, state: State) -> int | None:
        """The generation that the change is to start from; a 412 Problem where it is gone."""
        if self.if_match is None or (self.if_match.strip() == "*" and state.generation):
            return None
        tags = {tag.strip() for tag in self.if_match.split(",")}
        known = {int(found[1]) for tag in tags if (found := _TAG.fullmatch(tag))}
        if state.generation not in known:
            raise Problem(
                HTTPStatus.PRECONDITION_FAILED,
                "changed-meanwhile",
                f"If-Match is {clean(self.if_match, 100)}, but {state.model} in "
                f'{state.environment} is at generation "{state.generation}": look at it again',
            )
        return state.generation


def _control(request: Request) -> Control:
    found: Control = request.app.state.control
    return found


def _caller(request: Request) -> Caller:
    gated: asgi.Request = request.scope["slipway.request"]
    return Caller(gated.caller, request.headers.get("if-match"), gated.id)


Controls = Annotated[Control, Depends(_control)]
Callers = Annotated[Caller, Depends(_caller)]


def one_change(control: Controls) -> Iterator[None]:
    """Each change holds a thread until the gateway follows: at most MAX_CHANGES at once."""
    if not control.changes.acquire(blocking=False):
        raise overloaded(f"{MAX_CHANGES} changes are in progress: try again")
    try:
        yield
    finally:
        control.changes.release()


def no_query(request: Request) -> None:
    """What stands there would be ignored: `?environment=staging` must not change production."""
    for name in request.query_params:
        message = "not a parameter of this route: its values go into the body"
        raise refused([FieldError(clean(name, 64), message)])


def refused(errors: Sequence[FieldError]) -> Problem:
    """422, naming the fields."""
    first, more = errors[0], f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-request",
        f"{first.field}: {first.message}{more}",
        title="Unprocessable Content",
        errors=tuple(errors[:20]),
    )
