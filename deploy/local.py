"""Changes of what the local platform serves, put together: its ledger, servers and Bentos."""

from deploy.home import Home
from deploy.ledger import Ledger
from deploy.targets.local import LocalTarget
from deploy.traffic import Traffic
from deploy.versions import live_release
from serving_config.schema import Configuration


def local_traffic(
    home: Home, configuration: Configuration, ledger: Ledger, working_directory: str
) -> Traffic:
    """What the CLI, the API and the controller change traffic with.

    working_directory: where model servers run, the folder that holds serving_config/.
    """
    target = LocalTarget(home, configuration, ledger, working_directory)
    return Traffic(ledger, target, lambda live: live_release(home, live))
