"""`python -m deploy.kubernetes [FOLDER] [--registry R] [--tag T]` writes the Kustomize tree for the
settings of SLIPWAY_CONFIG, or the checkout's; into deploy/kubernetes/ where no folder is given."""

import argparse
import os
import sys
from pathlib import Path

from deploy.kubernetes.settings import Source
from deploy.kubernetes.tree import FOLDER, images, write
from serving_config.load import FOLDER as SETTINGS
from serving_config.load import ConfigurationError, load


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.kubernetes", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="left out: here")
    parser.add_argument("--registry", default="", help="of the images, such as ghcr.io/me")
    parser.add_argument("--tag", default="", help="of the images")
    given = parser.parse_args()
    folder = Path(os.environ.get("SLIPWAY_CONFIG") or SETTINGS).resolve()
    try:
        # The files alone: what variables say over them here is not for the cluster.
        source = Source.on_cluster(load(folder, variables={}), folder)
        write(source, given.folder.resolve(), images(given.registry, given.tag))
    except (ConfigurationError, ValueError, OSError) as error:
        sys.exit(f"deploy.kubernetes: {error}")


if __name__ == "__main__":
    main()
