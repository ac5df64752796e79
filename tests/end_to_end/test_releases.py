"""Releases under continuous load: a good version arrives, bad ones go back by themselves."""

import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import mlflow
import pytest

from deploy.ledger import Ledger
from deploy.supervision import Supervisor
from tests.end_to_end.bad_models import TRIGGER, failing, good, mislabelled, slow
from tests.end_to_end.harness import PACE, SLIPWAY, Checkout, configure, in_production, wait_for

# MLflow's client keeps its connections for the life of the process.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)

MODEL = "flower"
SETTINGS = """\
promotion: manual
release:
  production:
    policy: canary
    steps: [10, 50]
    min_requests: 100
    min_seconds: 2
    max_seconds: 300
    bake_seconds: 5
    # Wrong labels, and what breaks on the rows of the log, are to get as far as live traffic here.
    replay: {max_disagreement: 1.0, rows: 0}
"""
THREADS = 4


@dataclass
class Traffic:
    """Answers by (version, status); version None where nobody answered."""

    answers: Counter[tuple[str | None, int]] = field(default_factory=Counter)
    done: threading.Event = field(default_factory=threading.Event)
    last_id: str = ""

    def send(self, url: str) -> None:
        headers = {"X-Environment": "production"}
        with httpx.Client(headers=headers, timeout=60) as client:
            while not self.done.wait(PACE):
                try:
                    answer = client.post(url, json={"features": TRIGGER})
                except httpx.HTTPError:
                    self.answers[None, 0] += 1
                    continue
                self.answers[answer.headers.get("X-Model-Version"), answer.status_code] += 1
                self.last_id = answer.headers["X-Request-ID"]

    def failed(self) -> Counter[str | None]:
        """Requests that were not answered with 200, by the version that answered."""
        counted: Counter[str | None] = Counter()
        for (version, status), count in self.answers.items():
            if status != httpx.codes.OK:
                counted[version] += count
        return counted


@contextmanager
def load(platform: Checkout) -> Iterator[Traffic]:
    """Requests at a steady pace, from several connections."""
    traffic = Traffic()
    url = f"{platform.url('gateway')}/models/{MODEL}/predict"
    threads = [threading.Thread(target=traffic.send, args=(url,)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield traffic
    finally:
        traffic.done.set()
        for thread in threads:
            thread.join()


def staged(platform: Checkout, version: int) -> int:
    """Wait until staging has proved the version."""

    def arrived() -> bool:
        runs = platform.dagster.runs(f"{MODEL}_to_staging", str(version))
        assert not any(run.status == "FAILURE" for run in runs), platform.dagster.run(
            runs[0].run_id
        ).error
        return any(run.status == "SUCCESS" for run in runs)

    wait_for(arrived, f"{MODEL} version {version} in staging")
    return version


def last_event(platform: Checkout) -> dict[str, str]:
    # Not by the command, which is asked again and again: it starts a Python each time.
    with Ledger(platform.home.ledger_url) as ledger:
        event = max(ledger.events(MODEL), key=lambda event: event.id)
    return {"action": event.action, "environment": event.environment}


@pytest.fixture(scope="module")
def first(platform: Checkout) -> int:
    """Version 1, in production."""
    configure(platform, MODEL, SETTINGS)
    version = staged(platform, good(platform, MODEL, 1.0))
    platform.must("promote", MODEL, "--version", str(version))
    return version


@pytest.fixture(scope="module")
def second(platform: Checkout, first: int) -> int:
    """Version 2, which a canary took to production under load without a failed request."""
    version = staged(platform, good(platform, MODEL, 2.0))
    with load(platform) as traffic:
        platform.must("promote", MODEL, "--version", str(version))
        wait_for(lambda: last_event(platform)["action"] == "healthy", "the end of the bake time")
    assert traffic.failed() == Counter()
    assert traffic.answers[str(first), 200] > 0
    assert traffic.answers[str(version), 200] > 0
    return version


def test_a_good_version_is_released_step_by_step(platform: Checkout, second: int) -> None:
    events = json.loads(platform.must("ledger", MODEL, "--json"))
    of_release = sorted(
        (e for e in events if e["version"] == second and e["environment"] == "production"),
        key=lambda event: event["id"],
    )
    assert [(e["action"], e["weight"]) for e in of_release] == [
        ("load", 0),
        ("canary", 10),
        ("canary", 50),
        ("promote", 100),
        ("healthy", 100),
    ]
    assert in_production(platform, MODEL, TRIGGER, second)
    assert "100 %" in platform.must("split", MODEL)


BAD = {"wrong answers": mislabelled, "slow": slow, "failing": failing}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_version_is_rolled_back_by_itself_and_harms_nobody_else(
    platform: Checkout, second: int, kind: str
) -> None:
    bad = staged(platform, BAD[kind](platform, MODEL))
    with load(platform) as traffic:
        refused = platform.slipway("promote", MODEL, "--version", str(bad))
    assert refused.returncode == 1, refused.stdout
    assert "rolled back" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert set(traffic.failed()) <= {str(bad)}
    assert traffic.answers[str(second), 200] > 0
    event = last_event(platform)
    assert (event["action"], event["environment"]) == ("rollback", "production")
    assert all(in_production(platform, MODEL, TRIGGER, second) for _ in range(50))
    client = mlflow.MlflowClient(platform.url("mlflow"))
    wait_for(
        lambda: str(client.get_registered_model(MODEL).aliases.get("production")) == str(second),
        "MLflow's alias",
    )
    assert "events" in platform.must("ledger", "--check")


def pid_of(platform: Checkout, name: str) -> int:
    (found,) = [i.pid for i in Supervisor(platform.home).status() if i.name == name]
    assert found
    return found


def test_a_canary_goes_on_where_it_was_when_its_controller_and_its_run_are_killed(
    platform: Checkout, second: int
) -> None:
    version = staged(platform, good(platform, MODEL, 4.0))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLIPWAY_")}
    with load(platform) as traffic:
        promoting = subprocess.Popen(
            [str(SLIPWAY), "promote", MODEL, "--version", str(version)],
            cwd=platform.folder,
            env=environment | platform.variables,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: last_event(platform)["action"] == "canary", "the first step")
            os.kill(pid_of(platform, "control"), signal.SIGKILL)
            assert promoting.wait(200) == 0
        finally:
            promoting.kill()
            promoting.wait()
        wait_for(lambda: last_event(platform)["action"] == "healthy", "the end of the bake time")
    assert traffic.failed() == Counter()
    assert in_production(platform, MODEL, TRIGGER, version)


def test_a_rollback_by_hand_and_back_again_under_load(platform: Checkout, second: int) -> None:
    before = json.loads(platform.must("status", "--json"))["live"]
    (current,) = [
        e["version"] for e in before if (e["model"], e["environment"]) == (MODEL, "production")
    ]
    with load(platform) as traffic:
        # Again: another test may have had a version rolled back a moment ago.
        platform.must("rollback", MODEL, "--reason", "an exercise", "--again")
        event = last_event(platform)
        assert event["action"] == "rollback"
        answered = platform.predict(MODEL, TRIGGER)
        assert answered.headers["X-Model-Version"] != current
        platform.must("promote", MODEL, "--version", str(current), "--policy", "direct")
    assert traffic.failed() == Counter()
    assert in_production(platform, MODEL, TRIGGER, int(current))


def test_a_split_by_hand_keeps_each_session_on_its_side(platform: Checkout, second: int) -> None:
    (live,) = [
        e
        for e in json.loads(platform.must("status", "--json"))["live"]
        if (e["model"], e["environment"], e["weight"]) == (MODEL, "production", 100)
    ]
    other = second if live["version"] != str(second) else second - 1
    platform.must("load", MODEL, "--version", str(other))
    platform.must("split", MODEL, f"{live['version']}=50", f"{other}=50")

    def side(session: int) -> set[str]:
        headers = {"X-Session-ID": f"user-{session}"}
        answers = [platform.predict(MODEL, TRIGGER, **headers) for _ in range(3)]
        return {answer.headers["X-Model-Version"] for answer in answers}

    sides = [side(session) for session in range(40)]
    assert all(len(one) == 1 for one in sides)
    assert len(set().union(*sides)) == 2
    wrong = platform.slipway("split", MODEL, f"{live['version']}=50", f"{other}=49")
    assert wrong.returncode != 0
    assert "99" in wrong.stderr
    platform.must("split", MODEL, f"{live['version']}=100")


def test_an_answer_has_a_receipt_back_to_the_training_run(platform: Checkout, second: int) -> None:
    answered = platform.predict(MODEL, TRIGGER)
    identity = answered.headers["X-Request-ID"]

    def explained() -> subprocess.CompletedProcess[str] | None:
        done = platform.slipway("explain-request", identity, "--json")
        return done if done.returncode == 0 else None

    # The logs are written every second.
    receipts = json.loads(wait_for(explained, "the receipt").stdout)
    text = json.dumps(receipts)
    version = answered.headers["X-Model-Version"]
    client = mlflow.MlflowClient(platform.url("mlflow"))
    assert client.get_model_version(MODEL, version).run_id in text
    assert "certificate" in text
