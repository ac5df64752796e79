"""`/v1/traffic-split`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from bentos.model_server.problems import FieldError
from deploy.control.bodies import Scope, Weights, label
from deploy.control.control import Callers, Control, Controls, one_change, refused
from deploy.control.documents import Split
from deploy.control.openapi import answers, changes
from deploy.control.replies import changed, etag, reply, split_of
from deploy.events import State

router = APIRouter(tags=["traffic"])
Scopes = Annotated[Scope, Query()]


def state_of(scope: Scope, control: Control) -> State:
    """The state that a query is about."""
    platform = control.configuration.platform
    model = scope.model or platform.default_model
    if model is None:
        raise refused([FieldError("model", "missing, and platform.yaml has no default_model")])
    return control.state(scope.environment or platform.default_environment, model)


@router.get("/traffic-split", responses=answers(Split, "The split.", 404, 422, etag=True))
def read_split(scope: Scopes, control: Controls) -> Response:
    """How the traffic is split between the live versions."""
    state = state_of(scope, control)
    return reply(split_of(state), headers=etag(state))


@router.post(
    "/traffic-split",
    dependencies=[Depends(one_change)],
    **changes(Split, "The new split, which the gateway follows already."),
)
def change_split(weights: Weights, scope: Scopes, control: Controls, caller: Callers) -> Response:
    """Give live versions other shares of the traffic. Ends a release in progress."""
    state = state_of(scope, control)
    event = control.traffic.split(
        state.environment,
        state.model,
        _by_label(weights.root),
        caller.actor,
        caller.expected(state),
    )
    return changed(event, caller, split_of(event.state))


def _by_label(weights: dict[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, weight in weights.items():
        if label(name) in found:
            raise refused([FieldError(name, "this version stands twice, with and without the v")])
        found[label(name)] = weight
    return found
