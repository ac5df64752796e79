import json
import stat
from pathlib import Path

import pytest

from deploy.events import State
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.monitoring.targets import PrometheusTargets, targets_file, write_targets
from tests.deploy.monitoring.promtool import ABOUT
from tests.deploy.releases import change, live

STATE = State("production", "iris", 4, (live(3, 90), live(4, 10, variant="int8")))
SERVERS = {
    cluster_name("production", "iris", item): f"127.0.0.1:{port}"
    for item, port in zip(STATE.live, (9003, 9004), strict=True)
}

NAME = cluster_name("production", "iris", live(3))


def listed(home: Home) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(targets_file(home).read_text())
    return found


def test_every_live_server_is_a_target_with_its_labels(home: Home) -> None:
    write_targets(home, [STATE], SERVERS | {"iris-2-production-00000000": "127.0.0.1:9002"})
    assert listed(home) == [
        {"targets": ["127.0.0.1:9003"], "labels": ABOUT},
        {
            "targets": ["127.0.0.1:9004"],
            "labels": ABOUT | {"version": "4-int8", "variant": "int8"},
        },
    ]


def test_one_without_a_server_is_left_out_and_no_model_is_an_empty_list(home: Home) -> None:
    write_targets(home, [STATE], {})
    assert listed(home) == []
    write_targets(home, [], SERVERS)
    assert listed(home) == []


def test_a_list_that_did_not_change_is_not_written_again(home: Home) -> None:
    write_targets(home, [STATE], SERVERS)
    before = targets_file(home).stat()
    write_targets(home, [STATE], dict(reversed(SERVERS.items())))
    after = targets_file(home).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert stat.S_IMODE(targets_file(home).parent.stat().st_mode) == 0o700


def test_the_list_follows_the_ledger_and_survives_a_folder_that_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path / "h").create()
    ledger, servers = Ledger(home.ledger_url), {NAME: "127.0.0.1:9003"}
    keeper = PrometheusTargets(home, ledger, lambda: servers)
    folder = targets_file(home).parent
    folder.write_text("in the way")
    for _ in range(3):
        keeper.tick()
    assert [line for line in caplog.messages if "cannot be written" in line] == [
        f"{targets_file(home)} cannot be written: Not a directory"
    ]
    folder.unlink()
    keeper.tick()
    assert listed(home) == []
    ledger.record(change(State("production", "iris"), live(3)))
    keeper.tick()
    assert [item["targets"] for item in listed(home)] == [["127.0.0.1:9003"]]
    ledger.close()
