import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bentos.model_server.problems import FieldError, invalid, unavailable
from deploy.challenge import Challenge, Champion
from deploy.dagster_client import DagsterClient
from deploy.platform import LocalPlatform
from deploy.versions import VersionFolder
from feature_repo.description import FeatureServiceDescription, Field
from orchestration.cli.feature_values import _parsed, _refusal
from orchestration.cli.features import _launch
from orchestration.cli.release import _warn_of_a_worse_one
from orchestration.features.errors import FeatureError
from serving_config.load import FOLDER, load
from serving_config.schema import Model
from tests.orchestration.features.homes import SERVICE, home_with

CHECKOUT = Path(__file__).parents[3]


def slipway(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: v for name, v in os.environ.items() if not name.startswith("SLIPWAY_")}
    return subprocess.run(
        [Path(sys.executable).parent / "slipway", *arguments],
        cwd=CHECKOUT,
        env=clean | {"SLIPWAY_HOME": str(home), "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_list_has_views_and_services(tmp_path: Path) -> None:
    home = home_with(tmp_path / "h")
    shown = json.loads(slipway(home.root, "features", "--json").stdout)
    (view,), (service,) = shown["views"], shown["services"]
    assert (view["view"], view["features"], view["watermark"]) == ("profile", ["age"], None)
    assert (service["service"], service["entities"]) == ("churn", ["customer_id"])
    assert "profile" in slipway(home.root, "features").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("features",), "slipway features apply"),
        (("materialize", "profil"), "no view 'profil'"),
        (("materialize",), "the platform is down"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    called = slipway(tmp_path / "h", *arguments)
    assert called.returncode == 1
    (line,) = called.stderr.splitlines()
    assert said in line


def test_keys_and_request_fields_are_told_apart_and_typed() -> None:
    service = FeatureServiceDescription(
        "s", (Field("id", "int64"),), SERVICE.features, (Field("text", "string"),)
    )
    assert _parsed(service, ["id=7", "text=a=b"]) == ({"id": 7}, {"text": "a=b"})
    for given, said in {
        "id=x": "'x' is no int64",
        "id": "is not KEY=VALUE",
        "text=a": "needs id",
        "other=1": "takes no other; it takes id, text",
    }.items():
        with pytest.raises(FeatureError, match=said):
            _parsed(service, [given])


def test_what_the_transformer_refuses_is_said_once() -> None:
    refused = invalid([FieldError("entities[0].id", "unknown: profile has no values for 7", 0)])
    document = json.loads(refused.encode("r", "/features"))
    assert _refusal(document) == "entities[0].id: unknown: profile has no values for 7"
    down = json.loads(unavailable("down", "the store does not answer").encode("r", "/features"))
    assert _refusal(down) == "the store does not answer"


def test_a_span_by_hand_is_the_configuration_of_the_views_step(tmp_path: Path) -> None:
    asked: list[Any] = []

    class Dagster(DagsterClient):
        def launch(self, *arguments: Any, **more: Any) -> str:
            asked.append((arguments, more))
            return "run"

    platform = LocalPlatform(home_with(tmp_path / "h"), load(variables={}), FOLDER)
    since = {"since": "2025-01-01T00:00:00Z"}
    _launch(platform, Dagster(""), "customer_activity", since)
    _launch(platform, Dagster(""), "customer_activity", {})
    (first, second) = asked
    assert first[0][0] == "materialize_customer_activity"
    assert first[1]["configuration"] == {"ops": {"features__customer_activity": {"config": since}}}
    assert second[1]["configuration"] is None


def test_a_person_who_promotes_a_worse_version_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = LocalPlatform(home_with(tmp_path / "h"), load(variables={}), FOLDER)
    worse = Challenge(
        model="iris",
        version=3,
        onnx_sha256="a" * 64,
        retrained_because="drift failed",
        champion=Champion(2, "b" * 64),
        failure="its training run left no hold-out",
    )
    shown: list[str] = []
    monkeypatch.setattr(
        "orchestration.cli.release.console.print", lambda text, **_: shown.append(text)
    )
    _warn_of_a_worse_one(platform, Model(name="iris"), 3)
    assert shown == []
    VersionFolder.of(platform.home, "iris", 3).write_challenge(worse)
    _warn_of_a_worse_one(platform, Model(name="iris"), 3)
    assert "better_than_production failed" in shown[0]
    assert "left no hold-out" in shown[0]
