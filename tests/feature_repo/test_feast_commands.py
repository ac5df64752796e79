"""`feast` in the folder, as Feast's users know it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from deploy.processes import free_port
from tests.feature_repo.histories import NOW, activity, hours_ago, profile, senders, write

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "feature_repo"
FEAST = Path(sys.executable).parent / "feast"
VIEWS = ("customer_activity", "customer_profile", "sender_activity")
READY_SECONDS = 120


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With sources, applied by `feast apply` and materialized by `feast materialize`."""
    home = tmp_path_factory.mktemp("feast") / "features"
    write(home, "customer_activity", activity([(1, hours_ago(2), 7)]))
    write(home, "customer_profile", profile([1], hours_ago(2)))
    write(home, "sender_activity", senders(["a@example.com"], hours_ago(2)))
    return home


def variables(home: Path) -> dict[str, str]:
    return os.environ | {
        "SLIPWAY_FEATURES_HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]),
    }


def feast(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(FEAST), *arguments], cwd=FOLDER, env=variables(home), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.ConnectError:
        return False


@contextmanager
def running(home: Path, command: str, path: str) -> Iterator[httpx.Client]:
    """A server of Feast's that answers at `path`."""
    port = free_port()
    arguments = [str(FEAST), command, "--host", "127.0.0.1", "--port", str(port)]
    log = home / f"{command}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments, cwd=FOLDER, env=variables(home), stdout=output, stderr=output
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=READY_SECONDS) as client:
            deadline = time.monotonic() + READY_SECONDS
            while not answers(client, path):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()


def test_plan_apply_and_the_servers_work_in_the_folder(home: Path) -> None:
    planned = feast(home, "plan")
    for name in (*VIEWS, "email_text_statistics", "customer_churn", "spam_detector"):
        assert planned.count(f" {name}\n") == 1
    feast(home, "apply")
    again = feast(home, "plan")
    assert "No changes to registry" in again
    assert "No changes to infrastructure" in again
    start, end = hours_ago(24), NOW + timedelta(hours=1)
    feast(home, "materialize", start.isoformat(), end.isoformat())
    asked = {"feature_service": "customer_churn", "entities": {"customer_id": [1, 2]}}
    with running(home, "serve", "/health") as server:
        answer = server.post("/get-online-features", json=asked).raise_for_status().json()
        names = answer["metadata"]["feature_names"]
        values = dict(zip(names, (item["values"] for item in answer["results"]), strict=True))
        assert values["num_purchases"] == [7, None]
        pushed = activity([(1, hours_ago(1), 9)]).to_pandas().drop(columns="created_timestamp")
        pushed["event_timestamp"] = pushed["event_timestamp"].astype(str)
        body = {
            "push_source_name": "customer_activity_push",
            "df": {"created_timestamp": pushed["event_timestamp"].tolist()}
            | pushed.to_dict("list"),
            "to": "online",
        }
        server.post("/push", json=body).raise_for_status()
        answer = server.post("/get-online-features", json=asked).raise_for_status().json()
        values = dict(zip(names, (item["values"] for item in answer["results"]), strict=True))
        assert values["num_purchases"] == [9, None]
    with running(home, "ui", "/") as server:
        assert "Feast" in server.get("/").text
        assert server.get("/projects-list.json").status_code == 200
