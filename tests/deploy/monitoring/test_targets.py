import json
import stat

from deploy.events import State
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.monitoring.targets import targets_file, write_targets
from tests.deploy.monitoring.promtool import ABOUT
from tests.deploy.releases import live

STATE = State("production", "iris", 4, (live(3, 90), live(4, 10, variant="int8")))
PORTS = {
    cluster_name("production", "iris", item): port
    for item, port in zip(STATE.live, (9003, 9004), strict=True)
}


def listed(home: Home) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(targets_file(home).read_text())
    return found


def test_every_live_server_is_a_target_with_its_labels(home: Home) -> None:
    write_targets(home, [STATE], PORTS | {"iris-2-production-00000000": 9002})
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
    write_targets(home, [], PORTS)
    assert listed(home) == []


def test_a_list_that_did_not_change_is_not_written_again(home: Home) -> None:
    write_targets(home, [STATE], PORTS)
    before = targets_file(home).stat()
    write_targets(home, [STATE], dict(reversed(PORTS.items())))
    assert targets_file(home).stat() == before
    assert stat.S_IMODE(targets_file(home).parent.stat().st_mode) == 0o700
