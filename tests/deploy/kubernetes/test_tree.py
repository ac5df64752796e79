"""The committed Kustomize tree renders offline, and what comes out holds together."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.home import Home
from deploy.keys import MOUNTED
from deploy.kubernetes.settings import Source
from deploy.kubernetes.tree import COMPONENTS, FOLDER, images, tree, write
from deploy.manifests.checks import problems
from deploy.monitoring.finding_metrics import FindingMetrics
from deploy.monitoring.rules import alerting_rules
from serving_config.load import FOLDER as SETTINGS
from serving_config.load import load
from tests.bentos.model_server.clients import free_port
from tests.deploy.kubernetes.custom_resources import REQUIRED
from tests.deploy.kubernetes.rendering import (
    EXTERNAL,
    Json,
    named,
    render,
    render_with,
    schema_problems,
)

ROOT = Path(__file__).parents[3]
OVERLAYS = ("staging", "production")


def shipped() -> Source:
    return Source.on_cluster(load(SETTINGS, variables={}), SETTINGS)


def found_in(objects: list[Json]) -> list[str]:
    return schema_problems(objects) + problems(objects, EXTERNAL)


def test_the_committed_tree_is_that_of_the_settings() -> None:
    expected = tree(shipped(), FOLDER)
    stale = [str(path) for path, text in expected.items() if path.read_text() != text]
    assert not stale, "run `python -m deploy.kubernetes`"
    written = {FOLDER / "base", FOLDER / "overlays", FOLDER / "components"}
    there = {path for folder in written for path in folder.rglob("*.yaml")}
    assert there <= expected.keys(), "nothing writes these any more"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_renders_and_holds_together(overlay: str) -> None:
    assert not found_in(render(FOLDER / "overlays" / overlay))


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("component", sorted(COMPONENTS.keys() - {"gateway-api", "istio"}))
def test_so_it_does_with_each_component(overlay: str, component: str, tmp_path: Path) -> None:
    # gateway-api is in them as shipped; istio, instead of it, by the settings below.
    objects = render_with(overlay, [component], tmp_path)
    assert not found_in(objects)
    assert objects != render(FOLDER / "overlays" / overlay)


def test_a_mistake_would_be_seen(tmp_path: Path) -> None:
    objects = render(FOLDER / "overlays" / "staging")
    named(objects, "Deployment", "mlflow")["spec"]["replica"] = 2
    named(objects, "Service", "mlflow")["spec"]["selector"] = {"app.kubernetes.io/name": "mlfow"}
    del named(objects, "Gateway", "slipway")["spec"]["listeners"][0]["port"]
    objects.append({"apiVersion": "example.com/v1", "kind": "What", "metadata": {"name": "x"}})
    found = "\n".join(found_in(objects))
    assert "replica" in found
    assert "listeners[].port is missing" in found
    assert "a kind that no check knows" in found
    assert "Service slipway/mlflow" in found


def test_every_part_gets_the_settings_as_they_are() -> None:
    objects = render(FOLDER / "overlays" / "production")
    for name, files in shipped().files.items():
        data = named(objects, "ConfigMap", name)["data"]
        assert data == {Path(file).name: (SETTINGS / file).read_text() for file in files}
    deployments = [item for item in objects if item["kind"] == "Deployment"]
    fingerprints = {
        item["spec"]["template"]["metadata"]["annotations"]["slipway.dev/settings"]
        for item in deployments
    }
    assert fingerprints == {shipped().fingerprint}
    for item in deployments:
        pod = item["spec"]["template"]["spec"]
        (volume,) = (v for v in pod["volumes"] if v["name"] == "settings")
        mounted = {
            entry["path"]
            for source in volume["projected"]["sources"]
            for entry in source["configMap"]["items"]
        }
        assert mounted == set(itertools.chain(*shipped().files.values()))


def test_who_asks_or_answers_with_keys_has_them_and_nobody_else() -> None:
    objects = render(FOLDER / "overlays" / "production")
    mounted = {
        item["metadata"]["name"]: each["mountPath"]
        for item in objects
        if item["kind"] == "Deployment"
        for container in item["spec"]["template"]["spec"]["containers"]
        for each in container["volumeMounts"]
        if each["name"] == "keys"
    }
    who = ("code-server", "feature-transformer", "slipway-control")
    assert mounted == dict.fromkeys(who, str(MOUNTED))


def test_no_secret_is_in_it() -> None:
    objects = render(FOLDER / "overlays" / "production")
    assert not [item for item in objects if item["kind"] == "Secret"]
    given = (FOLDER / "secrets.example.env").read_text().splitlines()
    documented = {line.partition("=")[0] for line in given if line and not line.startswith("#")}
    variables = [
        variable
        for item in objects
        if item["kind"] == "Deployment"
        for container in item["spec"]["template"]["spec"]["containers"]
        for variable in container["env"]
    ]
    asked = {v["valueFrom"]["secretKeyRef"]["key"] for v in variables if "valueFrom" in v}
    assert asked == documented
    assert not [v["name"] for v in variables if v["name"] in documented and "value" in v]


def verbs(objects: list[Json], where: str) -> dict[str, set[str]]:
    """`group/resource` → verbs, in one namespace."""
    found: dict[str, set[str]] = {}
    for item in objects:
        if item["kind"] == "Role" and item["metadata"]["namespace"] == where:
            for rule in item["rules"]:
                for name in rule["resources"]:
                    found.setdefault(f"{rule['apiGroups'][0]}/{name}", set()).update(rule["verbs"])
    return found


def test_who_deploys_may_do_that_and_no_more() -> None:
    objects = render(FOLDER / "overlays" / "staging")
    assert not [item for item in objects if item["kind"].startswith("ClusterRole")]
    allowed = verbs(objects, "slipway-staging")
    assert allowed["/namespaces"] == {"get"}
    assert "patch" in allowed["apps/deployments"]
    assert "patch" in allowed["gateway.networking.k8s.io/httproutes"]
    assert "create" not in allowed["/pods"]
    assert not {name for name in allowed if "roles" in name or name.endswith("/exec")}
    assert all("*" not in {name, *given} for name, given in allowed.items())
    # What is left from another gateway goes.
    assert allowed["networking.istio.io/virtualservices"] == {"list", "delete"}


def test_a_component_adds_the_rights_that_it_needs(tmp_path: Path) -> None:
    objects = render_with("staging", ["istio", "kserve"], tmp_path)
    allowed = verbs(objects, "slipway-staging")
    assert "patch" in allowed["networking.istio.io/virtualservices"]
    assert "patch" in allowed["serving.kserve.io/inferenceservices"]


def test_prometheus_has_the_same_rules_on_a_cluster(tmp_path: Path) -> None:
    objects = render_with("staging", ["monitoring"], tmp_path)
    rules = named(objects, "PrometheusRule", "slipway")["spec"]
    assert rules == alerting_rules(shipped().configuration)


def test_control_listens_where_the_others_look_for_it(home: Home, tmp_path: Path) -> None:
    objects = render_with("staging", ["monitoring"], tmp_path)
    spec = named(objects, "Deployment", "slipway-control")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables["SLIPWAY_CONTROL_PORT"] == str(ports["http"])
    assert variables["SLIPWAY_CONTROL_METRICS_PORT"] == str(ports["metrics"])
    (endpoint,) = named(objects, "PodMonitor", "control")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    port = free_port()
    metrics = FindingMetrics(home, shipped().configuration)
    try:
        assert metrics.serve(port=port) == port
        assert "slipway_findings_damaged" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    finally:
        metrics.close()


def test_cron_jobs_never_pile_up(tmp_path: Path) -> None:
    objects = render_with("production", ["cronjobs"], tmp_path)
    jobs = [item for item in objects if item["kind"] == "CronJob"]
    assert {item["metadata"]["name"] for item in jobs} >= {"materialize", "drift-iris-production"}
    for item in jobs:
        spec = item["spec"]
        assert spec["concurrencyPolicy"] == "Forbid"
        assert spec["failedJobsHistoryLimit"] >= 1
        assert 0 < spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 3600


def test_images_come_from_a_registry_of_yours_those_of_runs_too(tmp_path: Path) -> None:
    write(shipped(), tmp_path, images("registry.example.com/team", "1.4"))
    for overlay in OVERLAYS:
        objects = render(tmp_path / "overlays" / overlay)
        pods = [o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Deployment"]
        kinds = ("containers", "initContainers")
        used = {made["image"] for pod in pods for kind in kinds for made in pod.get(kind, ())}
        assert used == {"registry.example.com/team/slipway/orchestration:1.4"}
        for name in ("code-server", "dagster-daemon"):
            (container,) = named(objects, "Deployment", name)["spec"]["template"]["spec"][
                "containers"
            ]
            variables = {each["name"]: each.get("value") for each in container["env"]}
            assert {variables["SLIPWAY_DAGSTER_IMAGE"]} == used


CHANGES: dict[str, dict[str, Any]] = {
    "istio": {"kubernetes": {"traffic": "istio", "gateway": "mesh/shared"}},
    "nginx": {"kubernetes": {"traffic": "nginx", "hostnames": ["models.example.com"]}},
    "an MLflow of one's own": {"mlflow": {"port": 5000, "tracking_uri": "https://m.example.com"}},
    "another namespace": {"kubernetes": {"namespace": "ml", "image_pull_secret": "registry"}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_settings_of_ones_own_hold_together_too(change: str, tmp_path: Path) -> None:
    settings = tmp_path / "serving_config"
    shutil.copytree(SETTINGS, settings, ignore=lambda _, names: [n for n in names if "." not in n])
    for folder in ("environments", "models"):
        shutil.copytree(SETTINGS / folder, settings / folder)
    platform = yaml.safe_load((settings / "platform.yaml").read_text()) | CHANGES[change]
    (settings / "platform.yaml").write_text(yaml.safe_dump(platform))
    done = subprocess.run(
        [sys.executable, "-m", "deploy.kubernetes", str(tmp_path / "tree")],
        env={"PYTHONPATH": str(ROOT), "SLIPWAY_CONFIG": str(settings)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for overlay in OVERLAYS:
        objects = render(tmp_path / "tree" / "overlays" / overlay)
        assert not schema_problems(objects)
        assert not problems(objects, EXTERNAL | {"Secret/registry"})


def test_settings_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.kubernetes"],
        env={"PYTHONPATH": str(ROOT), "SLIPWAY_CONFIG": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("deploy.kubernetes: ")
    assert done.stderr.count("\n") == 1


def test_the_page_names_what_no_schema_was_held_against() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    assert not [kind for kind in REQUIRED if kind.split()[1] not in page]
