"""The routing rules, asked of a real Envoy in front of small real servers."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.events import Live, State
from deploy.gateway.envoy import (
    GatewayAdmin,
    GatewayError,
    exclusive,
    write_clusters,
    write_routes,
)
from deploy.gateway.routes import Routing, cluster_name
from deploy.home import Home
from deploy.processes import free_port
from serving_config.gateway import Gateway as Settings
from serving_config.gateway import Limits
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY, problem, running_envoy, until
from tests.deploy.gateway.upstreams import Upstream, upstream
from tests.deploy.releases import live

pytestmark = ADMIN_IS_ASKED_TOO_EARLY

# iris has a canary and a version without traffic in staging; iris-1's name begins like a version.
LIVES: dict[tuple[str, str], tuple[Live, ...]] = {
    ("staging", "iris"): (live(2, 80), live(3, 20), live(3, 0, variant="int8")),
    ("production", "iris"): (live(1),),
    ("staging", "iris-1"): (live(2, model="iris-1"),),
}
ROUTING = Routing(
    environments=("production", "staging"),
    default_environment="staging",
    models=("iris", "iris-1", "spam"),
    default_model="iris",
    states=tuple(State(*place, 1, lives) for place, lives in LIVES.items()),
)


@dataclass(frozen=True)
class Gateway:
    home: Home
    client: httpx.Client
    admin: GatewayAdmin
    upstreams: dict[str, Upstream]

    @property
    def ports(self) -> dict[str, int]:
        return {name: server.port for name, server in self.upstreams.items()}

    def write_clusters(self, ports: dict[str, int]) -> str:
        return write_clusters(self.home, ports, Limits())

    def route(self, routing: Routing) -> None:
        with exclusive(self.home):
            self.admin.wait_for("rds", write_routes(self.home, routing))

    def get(self, path: str, **headers: str) -> httpx.Response:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.client.get(path, headers=named)

    def asked(self, path: str, **headers: str) -> tuple[str, str]:
        """Which server answered, and the path that it saw."""
        response = self.get(path, **headers)
        assert response.status_code == 200, response.text
        said = response.json()
        return said["name"].rpartition("-")[0], said["path"]


@pytest.fixture(scope="module")
def gateway(home: Home) -> Iterator[Gateway]:
    settings = Settings(port=free_port())
    names = [cluster_name(*place, item) for place, lives in LIVES.items() for item in lives]
    with ExitStack() as stack:
        upstreams = {name: stack.enter_context(upstream(name)) for name in names}
        ports = {name: server.port for name, server in upstreams.items()}
        admin = stack.enter_context(running_envoy(home, settings, ROUTING, ports))
        address = f"http://127.0.0.1:{settings.port}"
        client = stack.enter_context(httpx.Client(base_url=address, timeout=30))
        yield Gateway(home, client, admin, upstreams)


@pytest.fixture(autouse=True)
def _shipped_routes(gateway: Gateway) -> Iterator[None]:
    """Every test begins with the same routes, whatever the one before has written."""
    gateway.route(ROUTING)
    yield
    for server in gateway.upstreams.values():
        server.waiting.clear()
        server.release.clear()


@pytest.mark.parametrize(
    ("path", "headers", "server", "seen"),
    [
        ("/models/iris/predict", {"x_environment": "production"}, "iris-1-production", "/predict"),
        ("/predict", {"x_environment": "production"}, "iris-1-production", "/predict"),
        ("/models/iris-1/predict", {}, "iris-1-2-staging", "/predict"),
        ("/models/iris-1/predict", {"x_environment": ""}, "iris-1-2-staging", "/predict"),
        ("/models/iris-1/predict", {"x_environment": "staging"}, "iris-1-2-staging", "/predict"),
        ("/models/iris/predict", {"x_model_version": "3"}, "iris-3-staging", "/predict"),
        ("/predict", {"x_model_version": "3-int8"}, "iris-3-int8-staging", "/predict"),
        ("/models/iris/versions/2/predict", {}, "iris-2-staging", "/predict"),
        ("/models/iris/versions/3/predict", {}, "iris-3-staging", "/predict"),
        ("/models/iris/versions/3-int8/predict", {}, "iris-3-int8-staging", "/predict"),
        (
            "/models/iris/v2/models/iris/versions/3-int8/infer",
            {},
            "iris-3-int8-staging",
            "/v2/models/iris/versions/3-int8/infer",
        ),
        (
            "/v2/models/iris/versions/3-int8",
            {},
            "iris-3-int8-staging",
            "/v2/models/iris/versions/3-int8",
        ),
        (
            "/models/iris/versions/3/predict",
            {"x_model_version": "2"},
            "iris-3-staging",
            "/predict",
        ),
        (
            "/models/iris/versions/2/v2/models/iris/versions/2/infer?x=%20",
            {},
            "iris-2-staging",
            "/v2/models/iris/versions/2/infer?x=%20",
        ),
        ("/models/iris-1/", {}, "iris-1-2-staging", "/"),
        ("/models//iris-1/./a/../predict", {}, "iris-1-2-staging", "/predict"),
    ],
)
def test_a_request_reaches_the_server_it_means_with_the_server_s_own_path(
    path: str, headers: dict[str, str], server: str, seen: str, gateway: Gateway
) -> None:
    assert gateway.asked(path, **headers) == (server, seen)
    answered = gateway.get(path, **headers).headers["x-environment"]
    assert answered == ("production" if "production" in server else "staging")


def test_a_model_without_a_slash_is_where_its_page_finds_its_parts(gateway: Gateway) -> None:
    response = gateway.get("/models/iris")
    assert response.status_code == 307
    assert response.headers["location"].endswith("/models/iris/")


def test_a_body_arrives_as_it_was_sent(gateway: Gateway) -> None:
    response = gateway.client.post("/models/iris-1/predict", content="ü" * 10_000)
    assert response.json()["body"] == "ü" * 10_000


def test_requests_are_split_by_weight(gateway: Gateway) -> None:
    answers = [gateway.asked("/predict")[0] for _ in range(300)]
    assert set(answers) == {"iris-2-staging", "iris-3-staging"}
    # 20 % of 300: fewer than 20 or more than 110 come up less than once in 10^9 runs.
    assert 20 < answers.count("iris-3-staging") < 110


@pytest.mark.parametrize(
    ("path", "headers", "detail"),
    [
        ("/predict", {"x_environment": "Staging"}, "unknown X-Environment; environments: prod"),
        ("/models/iris/predict", {"x_environment": "test"}, "unknown X-Environment"),
        ("/models/rose/predict", {}, "no such model; models: iris, iris-1, spam"),
        ("/models/iri/predict", {}, "no such model"),
        ("/predict", {"x_model_version": "1"}, "not live in staging; live: 2, 3, 3-int8"),
        ("/models/iris/versions/9/predict", {}, "this version of iris is not live in staging"),
        (
            "/models/iris/versions/9/predict",
            {"x_model_version": "3"},
            "this version of iris is not live in staging",
        ),
        ("/models/iris/versions/3/predict", {"x_environment": "production"}, "in production"),
    ],
)
def test_what_there_is_not_is_404_and_says_what_there_is(
    path: str, headers: dict[str, str], detail: str, gateway: Gateway
) -> None:
    assert detail in problem(gateway.get(path, **headers), 404)["detail"]


def test_a_model_of_which_nothing_is_live_is_503_with_retry_after(gateway: Gateway) -> None:
    response = gateway.get("/models/spam/predict")
    body = problem(response, 503)
    assert (body["title"], body["detail"]) == (
        "Service Unavailable",
        "no version of spam is live in staging",
    )
    assert response.headers["retry-after"] == "5"


def test_without_a_default_model_a_bare_path_says_how_to_name_one(gateway: Gateway) -> None:
    gateway.route(replace(ROUTING, default_model=None))
    body = problem(gateway.get("/predict"), 404)
    assert body["detail"] == (
        "there is no default model: ask /models/<model>/…; models: iris, iris-1, spam"
    )


def test_what_a_server_refuses_comes_back_in_its_own_words(gateway: Gateway) -> None:
    response = gateway.get("/models/iris-1/refuse")
    assert response.status_code == 422
    assert response.json()["path"] == "/refuse"


def test_an_escaped_slash_does_not_get_around_the_routes(gateway: Gateway) -> None:
    response = gateway.get("/models%2Firis/predict")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["title"] == "Bad Request"


def test_a_request_id_is_kept_or_made_and_the_server_sees_the_same(gateway: Gateway) -> None:
    kept = gateway.get("/models/iris-1/predict", x_request_id="mine-1")
    assert kept.headers["x-request-id"] == "mine-1"
    assert kept.json()["headers"]["x-request-id"] == "mine-1"
    made = [gateway.get("/models/iris-1/predict") for _ in range(2)]
    ids = [response.headers["x-request-id"] for response in made]
    assert ids == [response.json()["headers"]["x-request-id"] for response in made]
    assert len(set(ids)) == 2
    assert problem(gateway.get("/models/rose/x", x_request_id='a"b'), 404)["request_id"] == 'a"b'


def test_a_server_that_is_gone_is_a_problem_of_the_gateway(gateway: Gateway) -> None:
    nobody = free_port()
    name = cluster_name("staging", "iris-1", live(2, model="iris-1"))
    gateway.admin.wait_for("cds", gateway.write_clusters(gateway.ports | {name: nobody}))
    try:
        problem(gateway.get("/models/iris-1/predict"), 503)
    finally:
        gateway.admin.wait_for("cds", gateway.write_clusters(gateway.ports))
    assert gateway.asked("/models/iris-1/predict")[0] == "iris-1-2-staging"


def test_routes_change_under_load_without_a_failed_request(gateway: Gateway) -> None:
    """Each change moves all of iris' traffic; nobody notices but by the version that answers."""
    ends = [replace(ROUTING, states=(State("staging", "iris", 1, (live(n),)),)) for n in (2, 3)]
    done = threading.Event()
    statuses: list[int] = []
    versions: set[str] = set()

    def ask() -> None:
        with httpx.Client(base_url=gateway.client.base_url, timeout=30) as client:
            while not done.is_set():
                response = client.get("/predict")
                statuses.append(response.status_code)
                versions.add(response.json().get("name", "").split("-")[1])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    gateway.route(ends[0])
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 21):
            gateway.route(ends[number % 2])
            before = len(statuses)
            until(lambda before=before: len(statuses) >= before + 10)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    assert versions == {"2", "3"}


def test_a_route_is_in_force_once_envoy_reports_it(gateway: Gateway) -> None:
    for number in (2, 3) * 5:
        state = State("staging", "iris", 1, (live(number),))
        gateway.route(replace(ROUTING, states=(state,)))
        assert gateway.asked("/predict")[0] == f"iris-{number}-staging"


def test_envoy_reports_the_versions_in_force(gateway: Gateway) -> None:
    versions = {
        "cds": gateway.write_clusters(gateway.ports),
        "rds": write_routes(gateway.home, ROUTING),
    }
    until(lambda: gateway.admin.versions() == versions)
    other = replace(ROUTING, default_environment="production")
    assert write_routes(gateway.home, other) != versions["rds"]


def test_routes_that_envoy_refuses_leave_the_old_ones_in_force(gateway: Gateway) -> None:
    good = gateway.admin.versions()["rds"]
    no_weights = State("staging", "iris", 1, (live(2, 0),))
    version = write_routes(gateway.home, replace(ROUTING, states=(no_weights,)))
    with pytest.raises(GatewayError, match=f"rds version {version} within 0.3 s .it has {good}"):
        gateway.admin.wait_for("rds", version, seconds=0.3)
    assert gateway.asked("/models/iris-1/predict")[0] == "iris-1-2-staging"


def test_a_gateway_that_is_busy_for_a_while_is_waited_for(gateway: Gateway) -> None:
    """One answer that takes longer than two seconds is no reason to take a change back."""
    (envoy,) = (child for child in psutil.Process().children() if child.name() == "envoy")
    envoy.suspend()
    later = threading.Timer(2.5, envoy.resume)
    later.start()
    try:
        gateway.route(replace(ROUTING, default_environment="production"))
    finally:
        later.join()
        gateway.route(ROUTING)


def test_requests_in_flight_are_counted_until_they_are_answered(gateway: Gateway) -> None:
    name = cluster_name("staging", "iris-1", live(2, model="iris-1"))
    server = gateway.upstreams[name]
    assert gateway.admin.active_requests(name) == 0
    answers: list[int] = []

    def ask() -> None:
        answers.append(httpx.get(f"{gateway.client.base_url}/models/iris-1/slow").status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert server.waiting.wait(15)
        assert gateway.admin.active_requests(name) == 1
        # Not those of a cluster whose name begins or ends alike.
        assert gateway.admin.active_requests(name.removeprefix("iris-")) == 0
        assert gateway.admin.active_requests(name[:-1]) == 0
        server.release.set()
        until(lambda: gateway.admin.active_requests(name) == 0)
    finally:
        server.release.set()
        thread.join()
    assert answers == [200]


def test_the_admin_socket_is_for_its_owner_alone(gateway: Gateway) -> None:
    assert (gateway.home.run / "envoy-admin.sock").stat().st_mode & 0o777 == 0o600
    assert gateway.home.run.stat().st_mode & 0o777 == 0o700


def test_a_gateway_that_is_not_there_is_not_ready_and_says_so(tmp_path: Path) -> None:
    admin = GatewayAdmin(Home(tmp_path))
    assert admin.ready() is False
    with pytest.raises(GatewayError, match="admin socket does not answer"):
        admin.versions()
    with pytest.raises(GatewayError, match="admin socket does not answer"):
        admin.wait_for("rds", "x")


def test_the_files_are_json_that_a_reader_never_sees_half(home: Home, gateway: Gateway) -> None:
    for kind in ("lds", "cds", "rds"):
        document = json.loads((home.gateway / f"{kind}.json").read_text())
        assert document["version_info"]
    assert not list(home.gateway.glob(".*"))
