"""As whom model servers run, and which secrets they may read."""

from deploy.manifests.names import FIELD_MANAGER, Json, label_value, namespace
from serving_config.schema import Environment

ACCOUNT = "model-server"
# The files keys.json, platform.key and pii.key of the home; in an environment's namespace also what
# `deploy.manifests.variables.secret_variables` names. The user's: docs/kubernetes.md.
KEYS = "slipway-keys"
# What fsspec reads from variables to reach `artifacts.url`, such as AWS_ACCESS_KEY_ID. The user's.
ARTIFACTS = "slipway-artifacts"
# As the images have it (deploy/docker); a number, since `runAsNonRoot` cannot judge a name.
USER = 65532


def metadata(environment: Environment, name: str) -> Json:
    """Of an object that belongs to the whole environment."""
    return {
        "name": name,
        "namespace": namespace(environment),
        "labels": {
            "app.kubernetes.io/managed-by": FIELD_MANAGER,
            "app.kubernetes.io/part-of": "slipway",
            "slipway.dev/environment": label_value(environment.name),
        },
    }


def service_account(environment: Environment) -> Json:
    """It may do nothing, and its pods get no token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(environment, ACCOUNT),
        "automountServiceAccountToken": False,
    }


def pod_security() -> Json:
    """What the profile `restricted` asks of a pod. The group owns the volumes it may write."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Json:
    """What it asks of each container, complete also where the pod says nothing."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
