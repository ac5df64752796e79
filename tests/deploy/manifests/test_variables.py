"""A server in a pod is told what a server on this machine is told."""

from pathlib import Path

from deploy.home import Home
from deploy.manifests.variables import Places, secret_variables, server_variables
from deploy.targets.local import server_process
from serving_config.features import Features
from serving_config.predictions import PredictionLog
from serving_config.schema import Environment


def test_the_local_target_and_a_pod_share_every_variable(tmp_path: Path) -> None:
    log = PredictionLog(flush_seconds=3, cloud_events_url="https://events.example/")
    environment = Environment(
        name="staging", threads=2, cache_url="redis://cache.example/0", prediction_log=log
    )
    home, features = Home(tmp_path), Features(timeout_seconds=7)
    places = Places(
        keys=str(home.keys),
        platform_key=str(home.platform_key),
        pii_key=str(home.pii_key),
        predictions=str(home.predictions),
        features_url=features.url,
    )
    shared = server_variables(environment, features, places) | secret_variables(environment)
    local = server_process("iris", 3000, "iris:3", environment, home, features).environment
    assert shared | {"SLIPWAY_WORKERS": "1"} == local
