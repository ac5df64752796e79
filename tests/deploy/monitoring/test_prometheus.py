"""A real Prometheus finds a real model server and alerts about it."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from deploy.events import State
from deploy.findings import write_finding
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.monitoring.files import write_monitoring_files
from deploy.monitoring.finding_metrics import FindingMetrics
from deploy.monitoring.targets import write_targets
from serving_config.load import load
from serving_config.schema import Configuration
from tests.bentos.model_server.clients import GOOD, JSON, free_port, served
from tests.bentos.model_server.models import iris
from tests.deploy.found import finding
from tests.deploy.monitoring.promtool import ABOUT, binary
from tests.deploy.releases import live


def quick() -> Configuration:
    """Alerts of a few seconds, and a p99 that no request keeps."""
    shipped = load(variables={})
    alerts = shipped.platform.alerts.model_copy(
        update={"window_seconds": 6.0, "for_seconds": 1.0, "min_requests": 1}
    )
    production = shipped.environments["production"]
    health = production.release.health.model_copy(update={"p99_ms": 0.01})
    release = production.release.model_copy(update={"health": health})
    changed = {"production": production.model_copy(update={"release": release})}
    return shipped.model_copy(
        update={
            "platform": shipped.platform.model_copy(update={"alerts": alerts}),
            "environments": shipped.environments | changed,
        }
    )


@contextmanager
def prometheus(folder: Path) -> Iterator[httpx.Client]:
    port = free_port()
    command = [binary("prometheus"), "--config.file", str(folder / "prometheus.yml")]
    command += ["--storage.tsdb.path", str(folder / "data")]
    command += ["--web.listen-address", f"127.0.0.1:{port}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1") as client:
            yield client
    finally:
        process.kill()
        process.wait()


def wait_for(client: httpx.Client, path: str, done: Callable[[Any], bool]) -> Any:
    deadline, found = time.monotonic() + 60, None
    while time.monotonic() < deadline:
        try:
            found = client.get(path).json()["data"]
            if done(found):
                return found
        except (httpx.TransportError, ValueError, KeyError):
            pass  # it is starting
        time.sleep(0.1)
    raise AssertionError(found)


def test_it_scrapes_a_live_server_and_alerts_by_its_metrics(home: Home, tmp_path: Path) -> None:
    state = State("production", "iris", 1, (live(3),))
    name = cluster_name("production", "iris", live(3))
    write_monitoring_files(quick(), home, tmp_path / "prometheus")
    with served(iris(), tmp_path) as (port, _), prometheus(tmp_path / "prometheus") as client:
        write_targets(home, [state], {name: f"127.0.0.1:{port}"})
        up = wait_for(client, "query?query=up{job='slipway'}", lambda d: d["result"])
        labels = up["result"][0]["metric"]
        assert labels == ABOUT | {
            "__name__": "up",
            "job": "slipway",
            "instance": f"127.0.0.1:{port}",
        }

        def alerts(found: Any) -> set[tuple[str, str]]:
            httpx.post(
                f"http://127.0.0.1:{port}/predict",
                content=json.dumps({"features": GOOD}),
                headers=JSON,
            ).raise_for_status()
            return {(a["labels"]["alertname"], a["state"]) for a in found["alerts"]}

        wait_for(client, "alerts", lambda found: alerts(found) == {("HighLatency", "firing")})
        write_targets(home, [], {})
        wait_for(client, "alerts", lambda found: not found["alerts"])


def test_it_scrapes_what_the_checks_found_and_alerts_about_it(home: Home, tmp_path: Path) -> None:
    values = {"share": 0.75, "prediction": 0.1, "column.width": 0.4, "rows": 300.0}
    write_finding(home, finding("failed", values=values))
    write_finding(home, finding("failed", kind="schedule", subject="iris_drift"))
    write_finding(home, finding("passed", kind="quality", values={"accuracy": 0.9}))
    write_monitoring_files(quick(), home, tmp_path / "prometheus")
    metrics = FindingMetrics(home, quick())
    try:
        write_targets(home, [], {}, {"control": f"127.0.0.1:{metrics.serve()}"})
        with prometheus(tmp_path / "prometheus") as client:

            def alerts(found: Any) -> set[str]:
                return {a["labels"]["alertname"] for a in found["alerts"] if a["state"] == "firing"}

            wait_for(
                client, "alerts", lambda found: alerts(found) == {"DataDrift", "ScheduleFailed"}
            )
            score = client.get('query?query=slipway_drift_score{column="width"}').json()["data"]
            labels = score["result"][0]["metric"]
            assert (labels["model"], labels["environment"]) == ("iris", "production")
            assert score["result"][0]["value"][1] == "0.4"
            quality = client.get("query?query=slipway_quality").json()["data"]["result"]
            assert quality[0]["metric"]["metric"] == "accuracy"
            write_finding(home, finding("passed"))
            write_finding(home, finding("passed", kind="schedule", subject="iris_drift"))
            wait_for(client, "alerts", lambda found: alerts(found) == set())
    finally:
        metrics.close()
