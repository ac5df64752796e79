"""Values for Dagster's own Helm chart, and `deploy/kubernetes/dagster/`: the same instance again.

    python -m deploy.dagster_helm

writes the folder's files from the settings; a test holds that they are up to date. The chart runs
webserver and daemon; the code location is the base's own (`slipway run code-server`), since the
chart knows no other entry point of an image than Dagster's.
"""

from pathlib import Path

import yaml

from deploy.dagster_yaml import dagster_yaml, instance
from deploy.manifests.dagster import DEPLOYER, STORAGE_VARIABLE, resources
from deploy.manifests.names import Json
from serving_config.load import load
from serving_config.schema import Configuration

FOLDER = Path(__file__).parent / "kubernetes" / "dagster"
# What the files are about, whatever this machine's variables say.
VARIABLES = {
    "SLIPWAY_DAGSTER_RUNS": "kubernetes",
    "SLIPWAY_TARGET": "kubernetes",
    # The pattern of such a URL; the files name the variable alone.
    STORAGE_VARIABLE: "postgresql://dagster@postgresql/dagster",
}
# The chart's own Secret key, and the variable that it makes of it.
PASSWORD_SECRET = "slipway-dagster-postgresql"  # noqa: S105 - no secret but its name
_GENERATED = "# Written by `python -m deploy.dagster_helm` from serving_config/: edit those.\n"
_HELM = """\
# helm install dagster dagster/dagster --namespace slipway --values values.yaml \\
#   --set postgresql.postgresqlHost=… --set dagsterWebserver.image.tag=…
# The Secret slipway-dagster-postgresql has the key postgresql-password.
"""
# What the chart writes by values of its own would be written twice.
_BY_CHART = ("storage", "run_launcher", "run_coordinator", "compute_logs", "telemetry")


def files(configuration: Configuration) -> dict[str, str]:
    """By name, the text."""
    values = yaml.safe_dump(helm_values(configuration), sort_keys=False, width=100)
    return {
        "dagster.yaml": _GENERATED + dagster_yaml(configuration, VARIABLES),
        "values.yaml": _GENERATED + _HELM + values,
    }


def helm_values(configuration: Configuration) -> Json:
    """For the chart `dagster` of 1.13 (keys as its values.schema.json has them)."""
    found = instance(configuration, VARIABLES)
    launcher = found["run_launcher"]
    own = {"postgres_password_secret": PASSWORD_SECRET}
    settings = configuration.platform.kubernetes
    repository, _, tag = settings.dagster.image.rpartition(":")
    image = {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}
    part = {"image": image, "resources": resources(settings.dagster.steps.waiting)}
    part |= _security(launcher["config"]["run_k8s_config"])
    code = configuration.platform.dagster.code_server
    server = {"host": "code-server", "port": code.port, "name": "slipway"}
    return {
        "global": {"postgresqlSecretName": PASSWORD_SECRET, "serviceAccountName": DEPLOYER},
        "serviceAccount": {"create": False, "name": DEPLOYER},
        "generatePostgresqlPasswordSecret": False,
        # SQLAlchemy's own choice for `postgresql` is a driver that Dagster is not written for.
        "postgresql": {"enabled": False, "postgresqlScheme": "postgresql+psycopg2"},
        "dagsterWebserver": part | {"workspace": {"enabled": True, "servers": [server]}},
        "dagster-user-deployments": {"enabled": True, "enableSubchart": False, "deployments": []},
        "dagsterDaemon": part
        | {
            "runCoordinator": {
                "enabled": True,
                "type": "CustomRunCoordinator",
                "config": {"customRunCoordinator": found["run_coordinator"]},
            },
            "runMonitoring": {"enabled": False},
            "runRetries": {"enabled": False},
            "sensors": {"useThreads": False},
        },
        "runLauncher": {
            "type": "CustomRunLauncher",
            "config": {
                "customRunLauncher": launcher | {"config": launcher["config"] | own},
            },
        },
        "computeLogManager": {"type": "NoOpComputeLogManager"},
        "telemetry": {"enabled": False},
        "retention": {"enabled": False},
        "additionalInstanceConfig": {
            key: value for key, value in found.items() if key not in _BY_CHART
        },
    }


def _security(run: Json) -> Json:
    """Webserver and daemon are as restricted as the runs are."""
    return {
        "podSecurityContext": run["pod_spec_config"]["securityContext"],
        "securityContext": run["container_config"]["securityContext"],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the container's own
    }


def write(folder: Path = FOLDER) -> None:
    """As the shipped settings have it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files(load(variables=VARIABLES)).items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
