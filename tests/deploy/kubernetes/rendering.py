"""`kubectl kustomize`, offline, and what is held against each object that comes out."""

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.kubernetes.tree import FOLDER
from deploy.manifests.checks import where
from tests.deploy.kubernetes.custom_resources import REQUIRED, missing

Json = dict[str, Any]

VERSIONS = ("1.30", kubernetes_validate.latest_version())
# What the user makes, see docs/kubernetes.md.
EXTERNAL = frozenset({"Secret/slipway", "Secret/slipway-keys"})


def kubectl() -> str:
    """Skips the test where there is none; in CI that is a failure."""
    found = shutil.which("kubectl")
    if found is None:
        absent = "kubectl is not installed (https://kubernetes.io/docs/tasks/tools/)"
        if os.environ.get("CI"):
            pytest.fail(absent)
        pytest.skip(absent)
    return found


def render(folder: Path) -> list[Json]:
    """All objects of a kustomization."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    # Kustomize warns on stderr, about what it will not take for much longer.
    assert done.stderr == ""
    return list(yaml.safe_load_all(done.stdout))


def render_with(overlay: str, components: Sequence[str], folder: Path) -> list[Json]:
    """An overlay with components of the committed tree, as a user's own kustomization has them."""
    base = os.path.relpath(FOLDER, folder)
    kustomization = {
        "resources": [f"{base}/overlays/{overlay}"],
        "components": [f"{base}/components/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(folder)


def schema_problems(objects: Sequence[Json]) -> list[str]:
    """What the oldest supported and the newest Kubernetes have against them, unknown fields
    included; of kinds without a schema, the required fields that they lack."""
    found = []
    for item in objects:
        kind = f"{item['apiVersion']} {item['kind']}"
        if kind in REQUIRED:
            found += [f"{where(item)}: {field} is missing" for field in missing(item, kind)]
            continue
        text = json.dumps(item, sort_keys=True)
        found += [f"{where(item)}: {said}" for said in _against_schemas(text)]
    return found


@functools.cache
def _against_schemas(text: str) -> tuple[str, ...]:
    """Most objects come in every rendering, and a schema is slow to read."""
    item, found = json.loads(text), []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            found.append(f"{item['apiVersion']} {item['kind']} is a kind that no check knows")
        except kubernetes_validate.ValidationError as error:
            found.append(f"{version}: {error}")
    return tuple(found)


def named(objects: Sequence[Json], kind: str, name: str) -> Json:
    """The one object of that name."""
    (found,) = (o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))
    return found
