"""The local target: `bentoml serve` under the supervisor, behind the Envoy of the platform."""

import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from deploy.analysis.agreement import Agreement
from deploy.events import Counters, Live, State
from deploy.gateway.envoy import (
    GatewayAdmin,
    GatewayError,
    GatewaySlowError,
    exclusive,
    is_in_force,
    write_clusters,
    write_routes,
)
from deploy.gateway.routes import Routing, cluster_name
from deploy.home import Home
from deploy.keys import platform_headers
from deploy.ledger import Ledger
from deploy.live import clusters, configured, live_clusters
from deploy.manifests.variables import Places, secret_variables, server_variables
from deploy.processes import free_port_but
from deploy.release import Release
from deploy.supervision import ProcessSpec, Supervisor
from deploy.targets.base import Endpoint, TargetError
from deploy.targets.compare_logs import KEPT
from deploy.targets.holds import alone, forget, holding, starting
from deploy.targets.metrics_text import scrape
from serving_config.features import Features
from serving_config.schema import Configuration, Environment

_POLL_SECONDS = 0.05
_SHIPPED = Features()
_NO_SETTINGS = Environment(name="none")  # of an environment that was taken out of the settings


def server_process(
    name: str,
    port: int,
    tag: str,
    environment: Environment,
    home: Home,
    features: Features = _SHIPPED,
    host: str = "127.0.0.1",
) -> ProcessSpec:
    """`bentoml serve` of one Bento. The watcher's name carries the port: see `server_ports`.

    host: the address it listens on."""
    scripts = Path(sys.executable).parent
    command = [str(scripts / "bentoml"), "serve", tag, "--host", host, "--port", str(port)]
    places = Places(
        keys=str(home.keys),
        platform_key=str(home.platform_key),
        pii_key=str(home.pii_key),
        predictions=str(home.predictions),
        features_url=features.url,
    )
    variables = {
        "SLIPWAY_WORKERS": str(environment.workers),
        # Empty rather than absent: the platform's own variables are inherited.
        "SLIPWAY_CLOUD_EVENTS_URL": "",
        **server_variables(environment, features, places),
        **secret_variables(environment),
    }
    if home.platform_key.exists():  # keys are in use: without them nobody is let in
        variables["SLIPWAY_KEYS_REQUIRED"] = "1"
    grace = environment.drain_timeout_seconds
    return ProcessSpec(f"{name}@{port}", command, variables, grace, log=name)


def server_ports(watchers: list[str]) -> dict[str, int]:
    """The model servers among the watchers: name → port."""
    pairs = (watcher.rsplit("@", 1) for watcher in watchers if "@" in watcher)
    return {name: int(port) for name, port in pairs}


def routing(configuration: Configuration, ledger: Ledger, coming: State | None = None) -> Routing:
    """What the routes depend on, as it is now. coming: a state that the ledger is about to have."""
    platform, states = configuration.platform, ledger.states()
    if coming is not None:
        states = {**states, (coming.environment, coming.model): coming}
    return Routing(
        environments=tuple(sorted(configuration.environments)),
        default_environment=platform.default_environment,
        models=tuple(sorted(configuration.models)),
        default_model=platform.default_model,
        states=tuple(configured(states, configuration).values()),
        response_timeout=platform.gateway.limits.response_timeout_seconds,
        sticky={name: item.sticky for name, item in configuration.environments.items()},
    )


@dataclass(frozen=True)
class LocalTarget:
    """See `deploy.targets.base.Target`."""

    home: Home
    configuration: Configuration
    ledger: Ledger
    working_directory: str

    @property
    def _supervisor(self) -> Supervisor:
        return Supervisor(self.home)

    def servers(self) -> dict[str, str]:
        """See `Target.servers`."""
        return {name: f"{self._host}:{port}" for name, port in self._server_ports().items()}

    @property
    def _host(self) -> str:
        return self.configuration.platform.model_servers.host

    def _server_ports(self) -> dict[str, int]:
        return server_ports(self._supervisor.names())

    def start(self, release: Release, environment: str) -> str:
        """Start a server on a free port, or find it started."""
        name = cluster_name(environment, release.model, release.live())
        with starting(self.home):
            ports = self._server_ports()
            if name not in ports:
                settings = self.configuration.environments[environment]
                process = server_process(
                    # What is free here may be taken where the servers run.
                    *(name, free_port_but(ports.values()), release.tag, settings, self.home),
                    features=self.configuration.features,
                    host=self.configuration.platform.host,
                )
                self._supervisor.add(process, self.working_directory)
        return name

    def wait_ready(self, name: str, release: Release, environment: str) -> None:
        """Until `/ready` is 200 and `/model/info` names the release's digest."""
        seconds = self.configuration.environments[environment].ready_timeout_seconds
        deadline = time.monotonic() + seconds
        port = self._server_ports().get(name)
        if port is None:
            raise TargetError(f"{name} is gone: another rollout has removed it; try again")
        url = f"http://{self._host}:{port}"
        last = "it does not answer"
        while time.monotonic() < deadline:
            try:
                answer = httpx.get(f"{url}/ready", timeout=2)
                if answer.status_code == httpx.codes.OK:
                    _require_digest(httpx.get(f"{url}/model/info", timeout=2), release)
                    return
                last = f"/ready answers {answer.status_code}: {answer.text[:500]}"
                if "model-refused" in answer.text:  # it will not change its mind
                    break
            except httpx.HTTPError:
                time.sleep(_POLL_SECONDS)
                continue
            time.sleep(_POLL_SECONDS)
        raise TargetError(
            f"{release.tag} did not get ready in {environment} (within {seconds:g} s): {last}; "
            f"{_last_line(self.home.logs / f'{name}.log')}"
        )

    def ready(self, name: str) -> bool:
        """See `Target.ready`."""
        port = self._server_ports().get(name)
        try:
            url = f"http://{self._host}:{port}/ready"
            return port is not None and httpx.get(url, timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def hold(self, name: str) -> AbstractContextManager[None]:
        """See `Target.hold`; the system lets go of what a killed process held."""
        return holding(self.home, name)

    def route(self) -> None:
        """Clusters first, then routes, each until Envoy reports it in force.

        Both files are written also where Envoy does not answer: it reads them when it is back.
        """
        admin = GatewayAdmin(self.home)
        limits = self.configuration.platform.gateway.limits
        with exclusive(self.home):
            clusters = write_clusters(self.home, self._server_ports(), limits, self._host)
            try:
                admin.wait_for("cds", clusters)
            finally:
                routes = write_routes(self.home, routing(self.configuration, self.ledger))
            admin.wait_for("rds", routes)

    def require_routable(self, state: State) -> None:
        """See `Target.require_routable`: our own gateway serves by any."""

    def in_step(self) -> bool:
        """See `Target.in_step`."""
        limits = self.configuration.platform.gateway.limits
        routes = routing(self.configuration, self.ledger)
        return is_in_force(self.home, self._server_ports(), limits, routes, self._host)

    def drain(self, name: str, environment: str) -> None:
        """Until Envoy has no request in flight to it, or the environment's drain time-out."""
        admin = GatewayAdmin(self.home)
        settings = self.configuration.environments.get(environment, _NO_SETTINGS)
        deadline = time.monotonic() + settings.drain_timeout_seconds
        while _is_busy(admin, name) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def observe(self, name: str) -> Counters:
        """The gateway's counts, and what the server says of its answers."""
        port = self._server_ports().get(name)
        if port is None:
            raise TargetError(f"{name} is not running")
        try:
            counts = GatewayAdmin(self.home).cluster_counts([name])
        except GatewayError as error:
            raise TargetError(f"{name} cannot be observed: {error}") from error
        if name not in counts:
            raise TargetError(f"the gateway does not know {name}")
        return msgspec.structs.replace(scrape(port, self._host), **counts[name]._asdict())

    def endpoint(self, environment: str, model: str, live: Live | None) -> Endpoint:
        """Through the gateway, with the platform's own key."""
        pinned = {"X-Model-Version": live.label} if live else {}
        return Endpoint(
            f"{self.configuration.platform.gateway.url}/models/{model}",
            {"X-Environment": environment} | pinned | platform_headers(self.home),
        )

    def agreement(self, candidate: str, stable: str, since: str, slowdown: float) -> Agreement:
        """By the servers' access logs."""
        environment = self._environment_of(candidate)
        if not self.configuration.environments[environment].access_log:
            raise TargetError(
                f"environment {environment} has access_log: false: what a shadow answers is "
                "compared by the access logs; set it to true, or leave shadow out of the policy"
            )
        ours, theirs = (self.home.logs / f"{name}.log" for name in (candidate, stable))
        try:
            return KEPT.logs(ours, theirs, since, slowdown).look()
        except OSError as error:
            raise TargetError(f"{error.filename}: {error.strerror}") from error

    def _environment_of(self, name: str) -> str:
        for state in configured(self.ledger.states(), self.configuration).values():
            if name in clusters([state]):
                return state.environment
        raise TargetError(f"{name} is not live")

    def stop(self, name: str) -> None:
        """See `Target.stop`; it may take its grace, the longest drain time-out."""
        with alone(self.home, name) as is_free:
            if is_free and name not in live_clusters(self.ledger):
                self._remove(name)

    def stop_unconfigured(self) -> list[str]:
        """Drain and stop the servers of models and environments that the settings do not have any
        more; to be called once the routes are without them. The ledger keeps its record."""
        states, servers = self.ledger.states(), self._server_ports()
        wanted = configured(states, self.configuration)
        found = {
            name: environment
            for (environment, model), state in states.items()
            if (environment, model) not in wanted
            for name in clusters([state]) & servers.keys()
        }
        for name, environment in found.items():
            self.drain(name, environment)
            with alone(self.home, name) as is_free:
                if is_free:
                    self._remove(name)
        return list(found)

    def _remove(self, name: str) -> None:
        environments = [*self.configuration.environments.values(), _NO_SETTINGS]
        grace = max(item.drain_timeout_seconds for item in environments)
        port = self._server_ports().get(name)
        if port is not None:
            self._supervisor.remove(f"{name}@{port}", timeout=grace + 30)
        forget(self.home, name)


def _is_busy(admin: GatewayAdmin, name: str) -> bool:
    try:
        return admin.active_requests(name) > 0
    except GatewaySlowError:  # nobody knows: until the deadline it may be
        return True


def _require_digest(answer: httpx.Response, release: Release) -> None:
    try:
        info = answer.json()
    except ValueError:
        info = None
    digest = info.get("contract", {}).get("onnx_sha256") if isinstance(info, dict) else None
    if digest != release.bundle.onnx_sha256:
        raise TargetError(
            f"the server started for {release.tag} serves ONNX digest {digest}, "
            f"not {release.bundle.onnx_sha256}"
        )


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return f"no log at {log}"
    return f"last line of {log.name}: {lines[-1][:300]}" if lines else f"{log.name} is empty"
