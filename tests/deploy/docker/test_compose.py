"""deploy/compose.yaml: complete, and no service has more rights than it needs."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.docker.images import CHECKOUT
from deploy.monitoring.files import FOLDER as MONITORING
from deploy.parts import PARTS
from serving_config.load import ENVIRONMENT_VARIABLES, FEATURE_VARIABLES, VARIABLES, load

FOLDER = CHECKOUT / "deploy"
TEXT = (FOLDER / "compose.yaml").read_text()
PROJECT: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = PROJECT["services"]
# The users' own, which compose.yaml hands on where they are set.
OPTIONAL = {name for name, value in PROJECT["x-slipway"]["environment"].items() if value is None}


def example() -> dict[str, str]:
    """.env.example."""
    lines = (FOLDER / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def used() -> set[str]:
    """The variables that compose.yaml asks for."""
    return set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", TEXT))


def test_every_variable_is_in_the_example_and_none_too_many() -> None:
    assert used() | {"COMPOSE_PROJECT_NAME"} == set(example())


def test_no_secret_has_a_default() -> None:
    secrets = {name for name in example() if "PASSWORD" in name}
    assert secrets == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_PASSWORD"}
    for name in secrets:
        assert example()[name] == ""
        for use in re.findall(rf"\$\{{{name}[^}}]*\}}", TEXT):
            assert ":?" in use, "without it nothing must start"


def test_each_part_of_the_platform_is_a_service() -> None:
    started = {
        service["command"][1]
        for service in SERVICES.values()
        if service.get("command", [])[:1] == ["run"]
    }
    assert started == set(PARTS)


def test_its_settings_are_settings() -> None:
    known = {*VARIABLES, *FEATURE_VARIABLES, *ENVIRONMENT_VARIABLES}
    given = PROJECT["x-slipway"]["environment"]
    ours = {name for name in given if name.startswith("SLIPWAY_")}
    # Those that feature_store.production.yaml reads.
    assert ours - known == {"SLIPWAY_FEATURES_REGISTRY", "SLIPWAY_FEATURES_REDIS"}
    values = {name: value for name, value in given.items() if value is not None}
    password = {"${REDIS_PASSWORD:?set it in deploy/.env}": "p"}
    for old, new in password.items():
        values = {name: value.replace(old, new) for name, value in values.items()}
    settings = load(variables={name: values[name] for name in ours - OPTIONAL})
    assert settings.platform.gateway.url == "http://gateway:8080"


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_may_do_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)
    assert service["mem_limit"]
    assert service["restart"] in {"unless-stopped", "on-failure"}
    assert "/tmp" in service["tmpfs"]  # noqa: S108 - of the container
    check = service["healthcheck"]
    assert "test" in check or name == "examples"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_this_machine_alone(name: str) -> None:
    ports = SERVICES[name].get("ports", [])
    assert all(port.startswith("127.0.0.1:${") for port in ports)
    published = {"gateway", "dagster-webserver", "mlflow", "grafana"}
    assert bool(ports) == (name in published)


@pytest.mark.parametrize("name", SERVICES)
def test_what_it_depends_on_and_mounts_is_there(name: str) -> None:
    service = SERVICES[name]
    for other, how in service.get("depends_on", {}).items():
        assert other in SERVICES
        assert how == {"condition": "service_healthy"}
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./"):
            assert (FOLDER / source).exists(), source
            assert volume.endswith(":ro"), "a container must not write into the checkout"
        else:
            assert source in PROJECT["volumes"]


def test_prometheus_finds_the_targets_that_its_configuration_names() -> None:
    (job,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    (file,) = job["file_sd_configs"][0]["files"]
    seen_from = (Path("/etc/prometheus") / file).resolve()
    mounted = [volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]]
    assert str(seen_from.parent) in mounted


def test_docker_compose_understands_it(tmp_path: Path) -> None:
    found = shutil.which("docker-compose")
    command = [found] if found else ["docker", "compose"]
    if found is None and _has_no_plugin():
        pytest.skip("neither docker-compose nor docker's compose plug-in is installed")
    values = {name: value or "x" for name, value in example().items()}
    variables = tmp_path / "env"
    variables.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    command += ["--file", str(FOLDER / "compose.yaml"), "--env-file", str(variables), "config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)


def _has_no_plugin() -> bool:
    if shutil.which("docker") is None:
        return True
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=20)
    return asked.returncode != 0
