"""`python -m deploy.pod_process COMMAND…`: a command in an empty home, as the platform runs it.

Pods of Dagster's runs and steps begin with it, whose commands dagster-k8s writes: they get the
home, the keys that they are given, and the variables that every process of the platform has.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.home import HomeError, find_home
from deploy.keys import KeyStoreError, take_mounted
from deploy.platform import LocalPlatform
from serving_config.load import FOLDER, ConfigurationError, load


def main(command: Sequence[str]) -> None:
    """Becomes the command; exits where home or settings cannot be used."""
    folder = Path(os.environ.get("SLIPWAY_CONFIG") or FOLDER)
    try:
        home = find_home(folder.parent).create()
        platform = LocalPlatform(home, load(folder), folder)
        take_mounted(home)
    except (HomeError, KeyStoreError, ConfigurationError) as error:
        sys.exit(f"slipway: {error}")
    os.execvpe(command[0], list(command), os.environ | platform.environment())  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
