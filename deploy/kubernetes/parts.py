"""The platform's parts on a cluster: what each runs, where it listens, and what it may know."""

from dataclasses import dataclass

from deploy.features import TRANSFORMER, uses_features
from deploy.manifests.dagster import DEPLOYER, PLAIN, STORAGE_VARIABLE, STORED
from deploy.manifests.route_parts import CONTROL_PORT, CONTROL_SERVICE
from serving_config.kubernetes import Resources
from serving_config.schema import Configuration

IMAGE = "slipway/orchestration"
IMAGE_VARIABLE = "SLIPWAY_DAGSTER_IMAGE"
CONTROL, MLFLOW, CODE = "control", "mlflow", "code-server"
WEBSERVER, DAEMON = "dagster-webserver", "dagster-daemon"
CONTROL_TARGET_PORT, METRICS_PORT = 8081, 9464

_LEDGER, _STORAGE = "SLIPWAY_LEDGER_URL", STORAGE_VARIABLE
_ALERTS = ("SLIPWAY_ALERT_WEBHOOK_URL", "SLIPWAY_SLACK_WEBHOOK_URL")
_MODEL_SERVERS = ("SLIPWAY_CACHE_URL", "SLIPWAY_CLOUD_EVENTS_URL")
_FEATURES = ("SLIPWAY_FEATURES_REGISTRY", "SLIPWAY_FEATURES_REDIS")


@dataclass(frozen=True)
class Part:
    """One Deployment of `slipway run <name>`, and its Service where it has ports.

    service: what its objects are called, where that is not its name.
    ports: what the port is called → the container's; the Service's are the same, or `service_port`.
    required, optional: keys of the Secret that it gets as variables; without a required one its
    containers do not start.
    probe: what the kubelet asks: httpGet and a path, or tcpSocket, both at the first port; or exec
    and a command.
    keys: whether it knows the API keys' hashes and the platform's own key.
    alone: two at once would get into each other's way, so that the old pod ends first.
    """

    name: str
    resources: Resources
    account: str = PLAIN
    service: str = ""
    ports: tuple[tuple[str, int], ...] = ()
    service_port: int | None = None
    probe: tuple[str, str] = ("tcpSocket", "")
    replicas: int = 1
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    keys: bool = False
    alone: bool = False

    @property
    def object_name(self) -> str:
        """Of its Deployment and its Service."""
        return self.service or self.name


def parts(configuration: Configuration) -> list[Part]:
    """All of them; their memory is from `slipway status`, with room."""
    found = [_control(), _code(configuration), _webserver(configuration), _daemon()]
    if configuration.platform.mlflow.tracking_uri is None:
        found.append(_mlflow(configuration))
    if uses_features(configuration):
        found.append(_transformer(configuration))
    return found


def _control() -> Part:
    """One of two leads, so that the loss of a node stops no release."""
    return Part(
        CONTROL,
        Resources(cpu="100m", memory="256Mi", memory_limit="512Mi"),
        DEPLOYER,
        service=CONTROL_SERVICE,
        ports=(("http", CONTROL_TARGET_PORT), ("metrics", METRICS_PORT)),
        service_port=CONTROL_PORT,
        probe=("httpGet", "/v1/health"),
        replicas=2,
        required=(_LEDGER,),
        optional=(*STORED, *_ALERTS, *_MODEL_SERVERS),
        keys=True,
    )


def _code(configuration: Configuration) -> Part:
    """It also runs the steps, unless runs are Jobs of their own."""
    return Part(
        CODE,
        Resources(cpu="500m", memory="1Gi", memory_limit="4Gi"),
        DEPLOYER,
        ports=(("grpc", configuration.platform.dagster.code_server.port),),
        required=(_LEDGER, _STORAGE),
        optional=(*STORED, *_MODEL_SERVERS, *_FEATURES),
        keys=True,
        alone=True,
    )


def _webserver(configuration: Configuration) -> Part:
    return Part(
        WEBSERVER,
        Resources(cpu="100m", memory="384Mi", memory_limit="1Gi"),
        ports=(("http", configuration.platform.dagster.port),),
        probe=("httpGet", "/server_info"),
        required=(_STORAGE,),
    )


def _daemon() -> Part:
    """Two of them would disturb each other."""
    return Part(
        DAEMON,
        Resources(cpu="100m", memory="384Mi", memory_limit="1Gi"),
        DEPLOYER,
        probe=("exec", "dagster-daemon liveness-check"),
        required=(_STORAGE,),
        alone=True,
    )


def _mlflow(configuration: Configuration) -> Part:
    """Without a volume: PostgreSQL and object storage have all of it."""
    return Part(
        MLFLOW,
        Resources(cpu="250m", memory="768Mi", memory_limit="1536Mi"),
        ports=(("http", configuration.platform.mlflow.port),),
        probe=("httpGet", "/health"),
        required=("SLIPWAY_MLFLOW_BACKEND_URL", "SLIPWAY_MLFLOW_ARTIFACTS"),
        optional=STORED,
    )


def _transformer(configuration: Configuration) -> Part:
    """330 MiB were measured (docs/benchmarks.md)."""
    return Part(
        TRANSFORMER,
        Resources(cpu="250m", memory="448Mi", memory_limit="1Gi"),
        ports=(("http", configuration.features.port),),
        probe=("httpGet", "/ready"),
        replicas=2,
        required=_FEATURES,
        optional=STORED,
        keys=True,
    )
