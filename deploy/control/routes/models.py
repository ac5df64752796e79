"""`/v1/models`: what each environment serves of each model."""

from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter
from starlette.responses import Response

from deploy.control.control import Control, Controls
from deploy.control.documents import ModelList, ModelState, Release, Serving, Version, VersionState
from deploy.control.openapi import answers
from deploy.control.progress import read_progress
from deploy.control.replies import reply
from deploy.events import Event, Live, Phase, State
from deploy.gateway.routes import cluster_name
from deploy.phases import began

router = APIRouter(tags=["models"])
_AT_ONCE = 8


@router.get("/models", responses=answers(ModelList, "All configured models."))
def read_models(control: Controls) -> Response:
    """All models: versions, weights, servers, and releases in progress."""
    look = _Look(control)
    return reply(
        ModelList(tuple(look.model(name) for name in sorted(control.configuration.models)))
    )


@router.get("/models/{model}", responses=answers(ModelState, "The model.", 404, 422))
def read_model(model: str, control: Controls) -> Response:
    """One model."""
    control.require(control.configuration.platform.default_environment, model)
    return reply(_Look(control, model).model(model))


class _Look:
    """The states and servers of one moment; of all models, or of one."""

    def __init__(self, control: Control, model: str | None = None) -> None:
        self._control = control
        self._states = control.ledger.states()
        self._servers = control.target.servers()
        names = [
            cluster_name(environment, owner, live)
            for (environment, owner), state in self._states.items()
            if model in (None, owner)
            for live in state.live
        ]
        asked = [name for name in names if name in self._servers]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            self._ready = dict(zip(asked, threads.map(control.target.ready, asked), strict=True))

    def model(self, model: str) -> ModelState:
        configuration = self._control.configuration
        return ModelState(
            model,
            configuration.models[model].description,
            {name: self._serving(name, model) for name in sorted(configuration.environments)},
        )

    def _serving(self, environment: str, model: str) -> Serving:
        last = self._control.ledger.last_event(environment, model)
        state = self._states.get((environment, model), State(environment, model))
        phase = None if last is None else last.phase
        return Serving(
            generation=state.generation,
            since=None if last is None else last.at,
            by=None if last is None else last.actor,
            versions=tuple(self._version(state, live, phase) for live in state.live),
            release=None if last is None or phase is None else self._release(last, phase),
        )

    def _version(self, state: State, live: Live, phase: Phase | None) -> Version:
        name = cluster_name(state.environment, state.model, live)
        address = self._servers.get(name)
        return Version(
            version=f"v{live.label}",
            state=_state(live, phase),
            weight=live.weight,
            mirror=live.mirror,
            ready=self._ready.get(name, False),
            server=None if address is None else f"http://{address}",
            onnx_sha256=live.onnx_sha256,
            bento=live.bento,
            bento_digest=live.bento_digest,
            certificate_sha256=live.certificate_sha256,
        )

    def _release(self, event: Event, phase: Phase) -> Release:
        look = read_progress(self._control.home, event.environment, event.model)
        return Release(
            phase=phase.name,
            step=phase.step,
            candidate=f"v{phase.candidate}",
            stable=f"v{phase.stable.label}" if phase.stable else None,
            since=began(phase, event),
            last_look=look if look and look.generation == event.generation else None,
        )


def _state(live: Live, phase: Phase | None) -> VersionState:
    if live.weight:
        canary = phase is not None and phase.name == "canary" and phase.candidate == live.label
        return "candidate" if canary else "serving"
    return "shadow" if live.mirror else "resident"
