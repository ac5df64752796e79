"""The RayJob manifest: what KubeRay and a namespace with restricted pods ask of it."""

import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from orchestration.cli.main import cli

ROOT = Path(__file__).parents[3]
PODS = ["head", "worker"]


def spec() -> dict[str, Any]:
    text = (ROOT / "deploy" / "kubernetes" / "kuberay" / "batch-job.yaml").read_text()
    manifest = yaml.safe_load(text)
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    found: dict[str, Any] = manifest["spec"]
    return found


def pod(kind: str) -> dict[str, Any]:
    cluster = spec()["rayClusterSpec"]
    groups = {"head": cluster["headGroupSpec"], "worker": cluster["workerGroupSpecs"][0]}
    found: dict[str, Any] = groups[kind]["template"]["spec"]
    return found


def test_its_command_is_one_that_the_command_line_takes() -> None:
    words = shlex.split(spec()["entrypoint"])
    assert words[:4] == ["env", "RAY_ADDRESS=auto", "slipway", "batch-predict"]
    command = cli.commands["batch-predict"]
    given = command.make_context("batch-predict", words[4:], resilient_parsing=False).params
    assert (given["engine"], given["as_json"], given["model"]) == ("ray", True, "MODEL")


def test_an_option_that_is_none_would_be_noticed() -> None:
    command = cli.commands["batch-predict"]
    words = [*shlex.split(spec()["entrypoint"])[4:], "--engines", "ray"]
    with pytest.raises(click.NoSuchOption):
        command.make_context("batch-predict", words)


@pytest.mark.parametrize("kind", PODS)
def test_its_pods_are_admitted_where_only_restricted_ones_are(kind: str) -> None:
    found = pod(kind)
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["runAsUser"] > 0
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & found.keys()
    assert all(volume.keys() & {"emptyDir", "persistentVolumeClaim"} for volume in found["volumes"])
    for container in found["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("kind", PODS)
def test_its_pods_are_bounded_and_mount_only_what_they_have(kind: str) -> None:
    found = pod(kind)
    for container in found["containers"]:
        resources = container["resources"]
        assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in found["volumes"]}


def test_all_pods_run_one_image_that_somebody_has_to_name() -> None:
    images = {container["image"] for kind in PODS for container in pod(kind)["containers"]}
    assert images == {"IMAGE"}
