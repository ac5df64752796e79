"""The GitHub workflows, as far as they can be judged without a runner."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from orchestration.cli.main import cli

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
# What whoever starts a workflow, or opens a pull request, may have typed.
_TYPED = re.compile(r"\$\{\{\s*(inputs|github\.(event|head_ref|ref_name))\b")
_ACTION = re.compile(r"[\w-]+/[\w-]+@v[0-9]+")


def workflow(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    found = yaml.safe_load(path.read_text())
    return {"on" if key is True else key: value for key, value in found.items()}


def steps(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in found["jobs"].values() for step in job["steps"]]


def test_there_are_some() -> None:
    assert {path.stem for path in WORKFLOWS} == {"checks", "images", "deploy-model"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_is_bounded_and_may_do_little(path: Path) -> None:
    found = workflow(path)
    assert found["permissions"] in ({}, {"contents": "read"})
    assert found["concurrency"]["group"]
    for job in found["jobs"].values():
        assert job["timeout-minutes"] <= 360
        assert not {*job.get("permissions", {}).values()} - {"read", "write"}
        assert job.get("needs") in (None, *found["jobs"])
    for step in steps(found):
        assert ("uses" in step) != ("run" in step)
        assert _ACTION.fullmatch(step.get("uses", "actions/checkout@v4"))
        assert not _TYPED.search(step.get("run", "")), "data is no command: hand it on by env"


def test_only_images_may_write_and_only_packages() -> None:
    given = {
        (path.stem, name)
        for path in WORKFLOWS
        for job in workflow(path)["jobs"].values()
        for name, may in job.get("permissions", {}).items()
        if may == "write"
    }
    assert given == {("images", "packages")}


def test_checks_run_on_every_python_that_the_package_is_for() -> None:
    (job,) = workflow(ROOT / ".github/workflows/checks.yaml")["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert '">=3.11,<3.14"' in (ROOT / "pyproject.toml").read_text()
    assert steps(workflow(ROOT / ".github/workflows/checks.yaml"))[-1]["run"] == (
        "make test PYTHON=python"
    )


def test_images_are_built_from_files_that_are_there() -> None:
    (job,) = workflow(ROOT / ".github/workflows/images.yaml")["jobs"].values()
    built = {item["image"]: item for item in job["strategy"]["matrix"]["include"]}
    assert built.keys() == {"model-server", "orchestration"}
    for item in built.values():
        text = (ROOT / f"deploy/docker/{item['file']}.Dockerfile").read_text()
        assert not item["target"] or f" AS {item['target']}\n" in text


def test_production_waits_for_staging_and_its_reviewers() -> None:
    found = workflow(ROOT / ".github/workflows/deploy-model.yaml")
    production = found["jobs"]["production"]
    assert production["needs"] == "staging"
    assert production["if"] == "inputs.environment == 'production'"
    assert {name: job["environment"] for name, job in found["jobs"].items()} == {
        "staging": "staging",
        "production": "production",
    }


@pytest.mark.parametrize("job", ["staging", "production"])
def test_its_commands_are_ones_that_the_command_line_takes(job: str) -> None:
    found = workflow(ROOT / ".github/workflows/deploy-model.yaml")["jobs"][job]
    run = found["steps"][-1]["run"].replace('"', "").split()
    words = [{"$MODEL": "iris", "$VERSION": "3"}.get(word, word) for word in run]
    name, *arguments = words[words.index("slipway", words.index("--")) + 1 :]
    command = cli.commands[name]
    assert isinstance(command, click.Command)
    given = command.make_context(name, arguments).params
    assert (given["model"], given["version"]) == ("iris", "3")
    assert given.get("environment", "production") == job
