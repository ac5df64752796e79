"""The operator's make targets: what each runs, and what it says where a variable is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What is there already need not be made, nor does `make -n` then list how.
MADE = "-o", ".venv/.platform", "-o", ".venv/.dev"

RUNS = {
    "export-model MODEL=iris": "slipway verify iris  --export-only",
    "verify-onnx-conversion MODEL=iris VERSION=3": "slipway verify iris --version 3",
    "model-deploy MODEL=iris ENVIRONMENT=staging": "slipway release iris  --environment staging",
    "model-deploy MODEL=iris VERSION=3 ON=cluster": (
        "kubectl -n slipway exec deployment/code-server -- slipway release iris --version 3"
    ),
    "materialize VIEWS=customer_profile": "slipway materialize customer_profile",
    "batch-predict MODEL=iris INPUT=a.parquet OUTPUT=b": (
        "slipway batch-predict iris --input 'a.parquet' --output 'b'"
    ),
    "status ON=cluster": "kubectl -n slipway exec deployment/code-server -- slipway status",
    "deploy-staging TAG=7": "python -m deploy.kubernetes .slipway/kubernetes  --tag 7",
    "deploy-prod NAMESPACE=ml": "kubectl -n ml wait --for condition=Available",
    "deploy-all": "--kustomize .slipway/kubernetes/overlays/production",
    "test-local-cluster": "deploy/kubernetes/local_cluster.sh",
    "clean": "rm -rf .slipway .venv",
}
LACKS = {
    "export-model": "MODEL= is missing, as in: make export-model MODEL=iris VERSION=3",
    "verify-onnx-conversion": "as in: make verify-onnx-conversion MODEL=iris VERSION=3",
    "model-deploy VERSION=3": "MODEL= is missing, as in: make model-deploy MODEL=iris",
    "batch-predict MODEL=iris INPUT=x": "OUTPUT= is missing, as in: make batch-predict MODEL=iris",
}


def make(*words: str) -> "subprocess.CompletedProcess[str]":
    variables = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    return subprocess.run(
        ["make", *words], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("words", RUNS)
def test_a_target_runs_what_it_says(words: str) -> None:
    done = make("-n", *MADE, *words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert RUNS[words] in done.stdout


@pytest.mark.parametrize("words", LACKS)
def test_a_missing_variable_is_one_line_that_says_what_to_type(words: str) -> None:
    done = make(*words.split())
    assert done.returncode == 2
    assert done.stdout == ""  # nothing was installed before
    assert done.stderr.count("\n") == 1
    assert LACKS[words] in done.stderr


def test_help_lists_every_target_in_groups() -> None:
    text = make("help").stdout
    groups = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert len(groups) >= 4
    for words in RUNS:
        assert f"make {words.split()[0]} " in text


def local_cluster(folder: Path, *tools: str) -> "subprocess.CompletedProcess[str]":
    """The script with stand-ins of those tools, which write down what they are asked."""
    for name in (*tools, "make"):
        tool = folder / name
        fails = "exit 1" if name == "make" else "exit 0"
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >>"{folder}/asked"\n{fails}\n')
        tool.chmod(0o755)
    for name in ("sh", "mktemp", "rm", "cat"):
        (folder / name).symlink_to(str(shutil.which(name)))
    script = str(ROOT / "deploy/kubernetes/local_cluster.sh")
    variables = {"PATH": str(folder)}
    return subprocess.run([script], env=variables, capture_output=True, text=True, timeout=60)


def test_without_kind_and_k3d_a_local_cluster_is_skipped_by_name(tmp_path: Path) -> None:
    done = local_cluster(tmp_path)
    assert done.returncode == 0
    assert done.stdout == "test-local-cluster: skipped: neither kind nor k3d is installed\n"


@pytest.mark.parametrize("tool", ["kind", "k3d"])
def test_a_local_cluster_goes_away_also_when_its_tests_failed(tmp_path: Path, tool: str) -> None:
    assert local_cluster(tmp_path, tool).returncode == 1
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0].startswith(f"{tool} ")
    assert " create " in asked[0] + " " or asked[0].split()[1] == "create"
    assert any("slipway/model-server:latest" in line for line in asked)
    assert asked[-2] == "make test-kubernetes"
    assert asked[-1].split()[:2] in ([tool, "delete"], [tool, "cluster"])
    assert " delete" in asked[-1]
