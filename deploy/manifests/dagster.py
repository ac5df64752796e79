"""The pods of Dagster's runs and steps, as `restricted` namespaces admit them.

Each has an empty home; the settings are those of the platform's own parts (the ConfigMaps of
deploy/kubernetes), and of the Secret each gets the keys that it needs and no others.
"""

from collections.abc import Iterable, Mapping, Sequence

from deploy.keys import MOUNTED
from deploy.manifests.identity import KEYS
from deploy.manifests.names import FIELD_MANAGER, Json
from serving_config.features import Features
from serving_config.kubernetes import Resources
from serving_config.schema import Configuration

# As the image has it, see deploy/docker/orchestration.Dockerfile.
HOME, USER = "/var/lib/slipway", 65532
SETTINGS = "/etc/slipway/serving_config"
# The Secret, and whom the pods run as: one that deploys and starts pods, one that may do nothing.
SECRET = "slipway"  # noqa: S105 - no secret but its name
DEPLOYER, PLAIN = "slipway-deployer", "slipway-plain"
STORAGE_VARIABLE = "SLIPWAY_DAGSTER_STORAGE_URL"

# Keys of the Secret. Dagster's storage is for whoever is a part of a run: what reads a trained
# model reports by its log, and cannot touch what Dagster knows.
STORED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3")
FEATURES = ("SLIPWAY_FEATURES_REGISTRY", "SLIPWAY_FEATURES_REDIS")
OF_STEP = (*STORED, *FEATURES)
OF_BATCH = ("SLIPWAY_LEDGER_URL", *OF_STEP)
OF_RUN = (STORAGE_VARIABLE, *OF_BATCH, "SLIPWAY_CACHE_URL", "SLIPWAY_CLOUD_EVENTS_URL")
_REQUIRED = {STORAGE_VARIABLE, "SLIPWAY_LEDGER_URL"}
# Settings that a pod takes over from the part that starts it. None of them holds a password.
INHERITED = (
    "AWS_REGION",
    "SLIPWAY_ARTIFACTS_URL",
    "SLIPWAY_CLUSTER_GATEWAY_URL",
    "SLIPWAY_DAGSTER_IMAGE",
    "SLIPWAY_DAGSTER_RUNS",
    "SLIPWAY_DAGSTER_URL",
    "SLIPWAY_DEFAULT_ENVIRONMENT",
    "SLIPWAY_DEFAULT_MODEL",
    "SLIPWAY_FEATURES_URL",
    "SLIPWAY_FEATURE_STORE",
    "SLIPWAY_GATEWAY_URL",
    "SLIPWAY_MLFLOW_TRACKING_URI",
    "SLIPWAY_MLFLOW_URL",
    "SLIPWAY_PREDICTIONS_URL",
    "SLIPWAY_TARGET",
)
_PLAIN = {
    "HOME": "/tmp",  # noqa: S108 - a volume of the pod's own
    "SLIPWAY_HOME": HOME,
    "SLIPWAY_CONFIG": SETTINGS,
}
# The API keys and the platform's own: for a pod that asks model servers, or is asked itself.
KEYS_VOLUME: Json = {"name": "keys", "secret": {"secretName": KEYS, "defaultMode": 0o440}}
KEYS_MOUNT: Json = {"name": "keys", "mountPath": str(MOUNTED), "readOnly": True}
# In place of the image's entry point: what dagster-k8s starts there is no `slipway`.
ENTRY = ["python", "-m", "deploy.pod_process"]

# Variables by which a pod owns those that it starts: they go with it.
OWN_NAME: list[Json] = [
    {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
    for name, path in (("POD_NAME", "metadata.name"), ("POD_UID", "metadata.uid"))
]

# What the launcher, the executor and the pods of heavy steps ask of the API server, in the
# platform's own namespace: (group, resources, verbs).
RULES: tuple[tuple[str, Sequence[str], Sequence[str]], ...] = (
    ("batch", ("jobs",), ("create", "delete", "get", "list")),
    ("batch", ("jobs/status",), ("get",)),
    ("", ("pods",), ("create", "delete", "get", "list")),
    ("", ("pods/log",), ("get",)),
    ("", ("events",), ("list",)),
)


def resources(asked: Resources) -> Json:
    """As a container has them. No limit of CPU but a configured one."""
    limits = {"memory": asked.memory_limit}
    if asked.cpu_limit is not None:
        limits["cpu"] = asked.cpu_limit
    return {"requests": {"cpu": asked.cpu, "memory": asked.memory}, "limits": limits}


def identity(account: str) -> Json:
    """Of a pod's spec: as whom it talks to the cluster, if it may at all."""
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": account != PLAIN,
    }


def container(keys: Iterable[str], asked: Resources, variables: Mapping[str, str]) -> Json:
    """All but name, image and command. keys: of the Secret; variables: of the part that starts
    it."""
    plain = _PLAIN | {name: variables[name] for name in INHERITED if variables.get(name)}
    return {
        "env": [
            *({"name": name, "value": value} for name, value in plain.items()),
            *map(_from_secret, keys),
        ],
        "resources": resources(asked),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "home", "mountPath": HOME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
            {"name": "settings", "mountPath": SETTINGS, "readOnly": True},
        ],
    }


def _from_secret(key: str) -> Json:
    reference: Json = {"name": SECRET, "key": key}
    if key not in _REQUIRED:
        reference["optional"] = True
    return {"name": key, "valueFrom": {"secretKeyRef": reference}}


def pod(configuration: Configuration, account: str) -> Json:
    """A pod's spec without its containers."""
    kubernetes = configuration.platform.kubernetes
    secret, scratch = kubernetes.image_pull_secret, kubernetes.dagster.scratch
    return {
        **identity(account),
        "enableServiceLinks": False,
        **({"imagePullSecrets": [{"name": secret}]} if secret else {}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [
            {"name": "home", "emptyDir": {"sizeLimit": scratch}},
            {"name": "tmp", "emptyDir": {"sizeLimit": scratch}},
            {"name": "settings", "projected": {"sources": _settings(configuration)}},
        ],
    }


def _settings(configuration: Configuration) -> list[Json]:
    """serving_config/ as it is loaded, in one folder."""
    files = ["platform.yaml", *(["features.yaml"] * (configuration.features != Features()))]
    folders = {
        "slipway-platform": {name: name for name in files},
        "slipway-environments": _yaml_files("environments", configuration.environments),
        "slipway-models": _yaml_files("models", configuration.models),
    }
    return [
        {
            "configMap": {
                "name": name,
                "items": [{"key": key, "path": path} for key, path in items.items()],
            }
        }
        for name, items in folders.items()
        if items
    ]


def _yaml_files(folder: str, names: Iterable[str]) -> dict[str, str]:
    return {f"{name}.yaml": f"{folder}/{name}.yaml" for name in sorted(names)}


def labels(component: str) -> Json:
    """Of the pods that are started for a run."""
    return {
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        "app.kubernetes.io/part-of": "slipway",
        "app.kubernetes.io/component": component,
    }
