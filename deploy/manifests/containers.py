"""The containers of a model server's pod: the server, and the one that fetches its Bento."""

import math

from deploy.events import Live
from deploy.features import TRANSFORMER
from deploy.keys import MOUNTED
from deploy.manifests.identity import ARTIFACTS, KEYS, container_security
from deploy.manifests.names import PORT, Json
from deploy.manifests.variables import Places, secret_variables, server_variables
from serving_config.kubernetes import Resources
from serving_config.schema import Configuration, Environment

# Where the serving image looks for its Bento: baked in, or mounted.
BENTO = "/bento"
# Seconds that a pod goes on as before once it is to end, while gateways hear of it; after that it
# gets SIGTERM, and answers 503 to /ready for DRAIN_SECONDS before it stops listening.
STOP_SECONDS = 5
DRAIN_SECONDS = 1.0
_PREDICTIONS = "/predictions"


def image(configuration: Configuration, model: str, live: Live) -> str:
    """The image of one version: `kubernetes.image`, filled in."""
    bento = live.bento.partition(":")[2]
    pattern = configuration.platform.kubernetes.image
    return pattern.replace("{model}", model).replace("{bento}", bento)


def fetches(configuration: Configuration) -> bool:
    """Whether pods fetch their Bento, since no image has it."""
    return "{bento}" not in configuration.platform.kubernetes.image


def server(configuration: Configuration, environment: Environment, model: str, live: Live) -> Json:
    """The model server, with one worker: more of them are more pods."""
    return {
        "name": "server",
        "image": image(configuration, model, live),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "env": _variables(configuration, environment),
        "resources": _resources(environment.kubernetes.resources),
        **_probes(environment.ready_timeout_seconds),
        "lifecycle": {"preStop": {"sleep": {"seconds": STOP_SECONDS}}},
        "securityContext": container_security(),
        "volumeMounts": _mounts(configuration, environment, live),
    }


def fetch(configuration: Configuration, live: Live) -> Json:
    """Fetches the Bento and holds it against its digest before the server starts.

    Raises ValueError where the settings do not say from where.
    """
    url = configuration.platform.artifacts.url
    if url is None:
        raise ValueError(
            "platform.yaml: artifacts.url is left out, so no pod could fetch a Bento: set it "
            "(s3://bucket/slipway), or give kubernetes.image a {bento}"
        )
    command = ["python", "-m", "deploy.artifacts", "fetch", "--url", url, "--bento", live.bento]
    return {
        "name": "fetch-bento",
        "image": configuration.platform.kubernetes.dagster.image,
        "command": [*command, "--digest", live.bento_digest, "--into", BENTO],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - a volume of the pod's own
        "envFrom": [{"secretRef": {"name": ARTIFACTS, "optional": True}}],
        "resources": _resources(Resources(cpu="100m", memory="256Mi", memory_limit="512Mi")),
        "securityContext": container_security(),
        "volumeMounts": [_mount("tmp", "/tmp"), _mount("bento", BENTO)],  # noqa: S108
    }


def volumes(configuration: Configuration, environment: Environment) -> list[Json]:
    """What the containers mount; the size limits protect the node."""
    claim = configuration.platform.kubernetes.predictions_claim
    keys = {"secretName": KEYS, "optional": True, "defaultMode": 0o444}
    found: list[Json] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
        {"name": "keys", "secret": keys},
    ]
    if fetches(configuration):
        found.append({"name": "bento", "emptyDir": {"sizeLimit": "2Gi"}})
    if claim is not None and environment.prediction_log.enabled:
        found.append({"name": "predictions", "persistentVolumeClaim": {"claimName": claim}})
    return found


def _mounts(configuration: Configuration, environment: Environment, live: Live) -> list[Json]:
    # What is fetched into is a BentoML home; the server sees the one Bento in it.
    folder = f"bentos/{live.bento.replace(':', '/')}"
    mounts = {
        "tmp": _mount("tmp", "/tmp"),  # noqa: S108
        "keys": _mount("keys", str(MOUNTED)) | {"readOnly": True},
        "bento": _mount("bento", BENTO) | {"subPath": folder, "readOnly": True},
        "predictions": _mount("predictions", _PREDICTIONS),
    }
    return [mounts[volume["name"]] for volume in volumes(configuration, environment)]


def _mount(name: str, path: str) -> Json:
    return {"name": name, "mountPath": path}


def _variables(configuration: Configuration, environment: Environment) -> list[Json]:
    platform = configuration.platform.kubernetes
    places = Places(
        keys=f"{MOUNTED}/keys.json",
        platform_key=f"{MOUNTED}/platform.key",
        pii_key=f"{MOUNTED}/pii.key",
        predictions=_PREDICTIONS if platform.predictions_claim else "",
        features_url=f"http://{TRANSFORMER}.{platform.namespace}:{configuration.features.port}",
    )
    plain = {
        "PORT": str(PORT),
        "HOME": "/tmp",  # noqa: S108
        "BENTOML_HOME": "/tmp/bentoml",  # noqa: S108
        "BENTOML_DO_NOT_TRACK": "True",
        "ORT_DISABLE_TELEMETRY": "1",
        "SLIPWAY_WORKERS": "1",
        "SLIPWAY_DRAIN_SECONDS": str(DRAIN_SECONDS),
        # A mesh's proxy asks from inside the pod: without keys whatever it forwards is let in.
        "SLIPWAY_KEYS_REQUIRED": "1",
        **server_variables(environment, configuration.features, places),
    }
    # The user's, in the environment's namespace. Not optional: without its cache or its receiver of
    # events a server would differ unnoticed.
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": KEYS, "key": name}}}
        for name in secret_variables(environment)
    ]
    return [{"name": name, "value": value} for name, value in plain.items()] + secret


def _resources(settings: Resources) -> Json:
    limits = {"memory": settings.memory_limit}
    if settings.cpu_limit is not None:
        limits["cpu"] = settings.cpu_limit
    return {"requests": {"cpu": settings.cpu, "memory": settings.memory}, "limits": limits}


def _probes(ready_seconds: float) -> Json:
    """/health while the process answers at all, /ready while it wants requests.

    A model that is refused is never ready, but not started again and again either: it says why.
    """
    health, ready = ({"httpGet": {"path": path, "port": PORT}} for path in ("/health", "/ready"))
    attempts = math.ceil(ready_seconds)
    return {
        "startupProbe": {**health, "periodSeconds": 1, "failureThreshold": attempts},
        "readinessProbe": {**ready, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2},
        # One long inference may keep the event loop for a while: that is no reason to kill it.
        "livenessProbe": {
            **health,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }
