"""One target over several: each environment runs where its settings say."""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from deploy.analysis.agreement import Agreement
from deploy.events import Counters, Live, State
from deploy.release import Release
from deploy.targets.base import Endpoint, Target


@dataclass(frozen=True)
class ByEnvironment:
    """See `deploy.targets.base.Target`. targets: by environment; several may have the same one."""

    targets: Mapping[str, Target]

    @property
    def _all(self) -> list[Target]:
        """Each once; a target need not be hashable."""
        found: list[Target] = []
        for target in self.targets.values():
            if not any(target is other for other in found):
                found.append(target)
        return found

    def _may_have(self, name: str) -> list[Target]:
        """The name ends with environment and digest; `eu-staging` ends with `staging`, too. All
        targets where it is of no environment that is left."""
        found = [
            target
            for target in self._all
            if any(
                re.search(rf"-{re.escape(environment)}-[0-9a-f]{{8}}$", name)
                for environment, other in self.targets.items()
                if other is target
            )
        ]
        return found or self._all

    def _of(self, name: str) -> Target:
        """The one whose server it is."""
        found = self._may_have(name)
        if len(found) == 1:
            return found[0]
        return next((target for target in found if name in target.servers()), found[0])

    def servers(self) -> dict[str, str]:
        """See `Target.servers`."""
        return {name: address for target in self._all for name, address in target.servers().items()}

    def start(self, release: Release, environment: str) -> str:
        """See `Target.start`."""
        return self.targets[environment].start(release, environment)

    def wait_ready(self, name: str, release: Release, environment: str) -> None:
        """See `Target.wait_ready`."""
        self.targets[environment].wait_ready(name, release, environment)

    def ready(self, name: str) -> bool:
        """See `Target.ready`."""
        return self._of(name).ready(name)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """See `Target.hold`; wherever it may be started."""
        with ExitStack() as stack:
            for target in self._may_have(name):
                stack.enter_context(target.hold(name))
            yield

    def route(self) -> None:
        """Every gateway, each to the end, whatever becomes of another; the first error is told."""
        failed: Exception | None = None
        for target in self._all:
            try:
                target.route()
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def require_routable(self, state: State) -> None:
        """See `Target.require_routable`; nothing routes an environment that was taken out of the
        settings."""
        if state.environment in self.targets:
            self.targets[state.environment].require_routable(state)

    def in_step(self) -> bool:
        """Whether every gateway is."""
        return all(target.in_step() for target in self._all)

    def drain(self, name: str, environment: str) -> None:
        """See `Target.drain`."""
        self._of(name).drain(name, environment)

    def stop(self, name: str) -> None:
        """See `Target.stop`; one that a target does not have is no error there."""
        for target in self._may_have(name):
            target.stop(name)

    def observe(self, name: str) -> Counters:
        """See `Target.observe`."""
        return self._of(name).observe(name)

    def endpoint(self, environment: str, model: str, live: Live | None) -> Endpoint:
        """See `Target.endpoint`."""
        return self.targets[environment].endpoint(environment, model, live)

    def agreement(self, candidate: str, stable: str, since: str, slowdown: float) -> Agreement:
        """See `Target.agreement`."""
        return self._of(candidate).agreement(candidate, stable, since, slowdown)
