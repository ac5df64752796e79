"""What a user has from `docker compose up`; the tests go on from one another, in this order."""

import json
from pathlib import Path

import httpx
import pytest

from tests.containers.load import load
from tests.containers.platform import Platform, docker, wait

pytestmark = pytest.mark.timeout(3600)
# The gateway and the model servers are in the way of every request; of the others none is.
IN_THE_WAY = {"gateway", "model-servers"}


def report(text: str) -> None:
    """For whoever reads the lane's output (pytest -s)."""
    print(f"\n  {text}")  # noqa: T201


def test_it_serves_by_itself(platform: Platform) -> None:
    report(f"first prediction {platform.wait_until_it_serves('1'):.0f} s after up was done")
    for service in platform.services():
        platform.wait_until_healthy(service)
    answer = platform.predict()
    assert answer.json()["prediction"] == "setosa"
    assert answer.headers["x-model-version"] == "1"


def test_nobody_predicts_without_a_key(platform: Platform) -> None:
    answer = httpx.post(f"{platform.url}/models/iris/predict", json={"features": {}}, timeout=10)
    assert answer.status_code == httpx.codes.UNAUTHORIZED


def test_no_container_is_root_or_can_write_to_its_root_or_become_more(platform: Platform) -> None:
    for service in platform.services():
        host = platform.inspect(service)["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert host["Memory"] > 0, service
        looks = "id -u; touch /probe 2>&1 || true; cat /proc/1/status | grep CapEff"
        said = docker("exec", platform.container(service), "sh", "-c", looks)
        assert said.splitlines()[0] != "0", service
        assert "Read-only file system" in said, f"{service}: {said}"
        assert "CapEff:\t0000000000000000" in said, f"{service}: {said}"


def test_only_what_users_need_is_published_and_on_this_machine_alone(platform: Platform) -> None:
    published = {}
    for service in platform.services():
        ports = platform.inspect(service)["NetworkSettings"]["Ports"] or {}
        for bound in filter(None, ports.values()):
            published[service] = {item["HostIp"] for item in bound}
    assert published == {name: {"127.0.0.1"} for name in ("gateway", "dagster-webserver", "mlflow")}


def test_memory_stays_far_below_the_limits(platform: Platform) -> None:
    for service in platform.services():
        shape = "{{.MemUsage}}"
        container = platform.container(service)
        used = docker("stats", "--no-stream", "--format", shape, container).strip()
        limit = platform.inspect(service)["HostConfig"]["Memory"]
        report(f"{service}: {used}")
        assert _bytes(used.split(" / ")[0]) < 0.7 * limit, f"{service}: {used}"


def _bytes(text: str) -> float:
    units = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "B": 1}
    unit = next(unit for unit in units if text.endswith(unit))
    return float(text.removesuffix(unit)) * units[unit]


def test_prometheus_scrapes_the_live_version(platform: Platform) -> None:
    url = "http://127.0.0.1:9090/api/v1/query?query=sum(slipway_requests_total)"
    said = docker("exec", platform.container("prometheus"), "wget", "-qO-", url)
    assert float(json.loads(said)["data"]["result"][0]["value"][1]) > 0


def test_a_second_version_rolls_over_under_load_without_a_failed_request(
    platform: Platform,
) -> None:
    with load(platform) as requests:
        platform.slipway("train", "iris")
        seconds = platform.wait_until_it_serves("2")
        before = requests.seen.total()
        wait(lambda: requests.seen.total() > before + 500, "no more requests", 60)
    report(f"version 2 serves {seconds:.0f} s after its training; {dict(requests.seen)}")
    assert not requests.failed()
    assert {"200 1", "200 2"} <= set(requests.seen)


def test_it_survives_the_kill_of_each_container(platform: Platform) -> None:
    for service in platform.services():
        restarts = platform.inspect(service)["RestartCount"]
        with load(platform) as requests:
            platform.kill(service)
            back = platform.wait_until_healthy(service, restarts + 1)
            platform.wait_until_it_serves("2")
        report(
            f"{service}: healthy again after {back:.0f} s, longest time without a prediction "
            f"{requests.gap:.1f} s; {dict(requests.seen)}"
        )
        if service not in IN_THE_WAY:
            assert not requests.failed(), service


def test_releases_work_after_all_that(platform: Platform) -> None:
    platform.slipway("train", "iris")
    platform.wait_until_it_serves("3")
    platform.slipway("promote", "iris")
    platform.wait_until_it_serves("3", "production")


def test_a_back_up_brings_it_back_on_another_machine(platform: Platform, tmp_path: Path) -> None:
    platform.back_up(tmp_path)
    sizes = {file.name: file.stat().st_size for file in sorted(tmp_path.iterdir())}
    platform.down()
    platform.restore(tmp_path)
    platform.start()
    report(f"restored ({sizes}), serves {platform.wait_until_it_serves('3'):.0f} s after up")
    platform.wait_until_it_serves("3", "production")
