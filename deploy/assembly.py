"""Changes of what serves, put together: the ledger, the places of the settings, the Bentos."""

from deploy.cluster.client import Cluster
from deploy.cluster.connection import connect
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.targets.base import Target
from deploy.targets.by_environment import ByEnvironment
from deploy.targets.kserve import KServeTarget
from deploy.targets.kubernetes import KubernetesTarget
from deploy.targets.local import LocalTarget
from deploy.traffic import Traffic
from deploy.versions import live_release
from serving_config.kubernetes import TargetName
from serving_config.schema import Configuration

OnCluster = KubernetesTarget | KServeTarget


def configured_traffic(
    home: Home, configuration: Configuration, ledger: Ledger, working_directory: str
) -> Traffic:
    """What the CLI, the API and the controller change traffic with.

    working_directory: where local model servers run, the folder that holds serving_config/.
    """
    target = configured_target(home, configuration, ledger, working_directory)
    return Traffic(ledger, target, lambda live: live_release(home, live))


def configured_target(
    home: Home, configuration: Configuration, ledger: Ledger, working_directory: str
) -> Target:
    """Every environment where its settings say. TargetError where a cluster is wanted and there
    are no credentials for one; nothing is asked of it yet."""
    elsewhere = cluster_targets(home, configuration, ledger)
    names = [name for name in configuration.environments if name not in elsewhere]
    if not elsewhere:
        return LocalTarget(home, configuration, ledger, working_directory)
    targets: dict[str, Target] = {**elsewhere}
    if names:
        here = LocalTarget(home, _only(configuration, names), ledger, working_directory)
        targets |= dict.fromkeys(names, here)
    return ByEnvironment(targets)


def _only(configuration: Configuration, environments: list[str]) -> Configuration:
    """The settings without other environments: the local gateway has no server of theirs."""
    kept = {name: configuration.environments[name] for name in environments}
    return configuration.model_copy(update={"environments": kept})


def cluster_targets(
    home: Home, configuration: Configuration, ledger: Ledger
) -> dict[str, OnCluster]:
    """The environments that run on the cluster, each with its target."""
    places: dict[TargetName, list[str]] = {}
    for name, environment in sorted(configuration.environments.items()):
        if environment.target != "local":
            places.setdefault(environment.target, []).append(name)
    if not places:
        return {}
    settings = configuration.platform.kubernetes
    cluster = Cluster(connect(settings), settings.request_timeout_seconds)
    found: dict[str, OnCluster] = {}
    for place, names in places.items():
        of = KServeTarget if place == "kserve" else KubernetesTarget
        found |= dict.fromkeys(names, of(home, configuration, ledger, cluster, tuple(names)))
    return found
