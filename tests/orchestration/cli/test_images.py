"""`slipway build-images` as a user calls it; a script stands in for docker."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.home import Home
from deploy.ledger import Ledger
from orchestration.cli.main import cli
from tests.deploy.control.controls import build
from tests.deploy.releases import change

_DOCKER = """\
#!/bin/sh
echo "$@" >>"$CALLS"
case "$1" in
  version) echo 20.10 ;;
  build) echo "Step 1/2 : FROM base"; [ -z "$FAIL" ] || { echo "no space left"; exit 1; } ;;
  image) echo '[{"Id": "sha256:ab", "Size": 5000000}]' ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("BASE_IMAGE", raising=False)
    monkeypatch.delenv("EXTRA_CA", raising=False)
    made = Home(tmp_path / "home").create()
    with Ledger(made.ledger_url):
        return made


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What it was called with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(_DOCKER)
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path / "calls"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["build-images", *arguments])


def refused(result: Result, *words: str) -> None:
    assert result.exit_code != 0
    text = str(result.exception)
    assert "\n" not in text
    for word in words:
        assert word in text
    assert type(result.exception).__module__.split(".")[0] in {"bentos", "deploy", "orchestration"}


def built(calls: Path) -> list[str]:
    """The images that docker was asked to build."""
    lines = [line.split() for line in calls.read_text().splitlines()]
    return [line[line.index("--tag") + 1] for line in lines if line[0] == "build"]


def test_without_docker_it_says_what_to_install(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(call(), "docker is not installed")


def test_with_the_engine_down_it_says_where_it_looked(
    home: Home, docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (docker.parent / "bin" / "docker").write_text("#!/bin/sh\necho 'no daemon' >&2; exit 1\n")
    monkeypatch.setenv("DOCKER_HOST", "tcp://far:2375")
    refused(call(), "does not answer at tcp://far:2375", "no daemon")


def test_a_model_without_a_bento_says_how_to_get_one(home: Home, docker: Path) -> None:
    refused(call("iris"), "no Bento of iris", "slipway release iris")
    assert not built(docker)


def test_a_version_that_was_not_proved_over_http_is_not_built(home: Home, docker: Path) -> None:
    build(home, 1, smoked=False)
    refused(call("iris"), "iris version 1")
    refused(call("iris", "--version", "1"), "iris version 1")
    assert not built(docker)


def test_a_bento_that_was_changed_is_not_built(home: Home, docker: Path) -> None:
    tag = build(home, 1).tag
    place = home.bentoml / "bentos" / tag.replace(":", "/")
    (place / "src" / "more.py").write_text("")
    refused(call("iris"), tag, "must not be deployed")
    assert not built(docker)


def test_what_is_live_goes_before_what_is_newest(home: Home, docker: Path) -> None:
    old, new = build(home, 1), build(home, 2)
    assert call("iris").exit_code == 0
    assert built(docker)[-1] == f"slipway/{new.tag}"
    with Ledger(home.ledger_url) as ledger:
        ledger.record(change(ledger.state("production", "iris"), old.live()))
    docker.unlink()
    result = call("iris", "--base-image", "debian", "--json")
    assert result.exit_code == 0
    ours = ["slipway/orchestration:latest", "slipway/model-server:latest"]
    assert built(docker) == [*ours, f"slipway/{old.tag}"]
    assert docker.read_text().count("BASE_IMAGE=debian") == 3
    images = json.loads(result.stdout[result.stdout.index("[\n") :])
    assert images[2] == {
        "name": f"slipway/{old.tag}",
        "digest": "sha256:ab",
        "size_bytes": 5_000_000,
    }


def test_a_build_that_fails_has_the_last_words_of_docker(
    home: Home, docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "1")
    refused(call(), "slipway/orchestration:latest could not be built", "no space left")
