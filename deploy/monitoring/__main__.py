"""`python -m deploy.monitoring [FOLDER]` writes rules.yml and prometheus.yml for the checkout's
settings and SLIPWAY_HOME; into deploy/monitoring/ where no folder is given."""

import sys
from pathlib import Path

from deploy.home import find_home
from deploy.monitoring.files import FOLDER, write_monitoring_files
from serving_config.load import ConfigurationError, load


def main() -> None:
    """The command."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    try:
        write_monitoring_files(load(), find_home(FOLDER.parent.parent), folder)
    except (ConfigurationError, OSError) as error:
        sys.exit(f"deploy.monitoring: {error}")


if __name__ == "__main__":
    main()
