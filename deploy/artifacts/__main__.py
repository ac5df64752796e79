"""`python -m deploy.artifacts`: fetch (init containers), publish, verify, prune."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from deploy.artifacts.bentos import fetch_bento
from deploy.artifacts.errors import ArtifactsError
from deploy.artifacts.publishing import publish_home
from deploy.artifacts.store import Store
from deploy.artifacts.upkeep import problems, surplus
from deploy.events import LedgerError
from deploy.home import Home, find_home
from deploy.ledger import open_ledger
from serving_config.load import FOLDER, ConfigurationError, load
from serving_config.schema import Configuration


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 with one line that says what is wrong."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.command(asked))
    except (ArtifactsError, ConfigurationError, LedgerError, OSError) as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.artifacts", description=__doc__)
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", help="of the store; artifacts.url of the settings otherwise")
    fetch = commands.add_parser(
        "fetch", parents=[common], help="a Bento into a BENTOML_HOME; prints its folder"
    )
    fetch.add_argument("--bento", required=True, metavar="TAG")
    fetch.add_argument("--digest", required=True, help="the Bento's, as the ledger has it")
    fetch.add_argument("--into", required=True, type=Path, metavar="DIR")
    fetch.set_defaults(command=_fetch)
    publish = commands.add_parser(
        "publish", parents=[common], help="what the home has and the store has not, or not whole"
    )
    publish.set_defaults(command=_publish)
    verify = commands.add_parser("verify", parents=[common], help="is all there and whole?")
    verify.set_defaults(command=_verify)
    prune = commands.add_parser(
        "prune", parents=[common], help="list what neither a version nor the ledger names"
    )
    prune.add_argument("--delete", action="store_true", help="and remove it")
    prune.add_argument("--older-than-hours", type=float, default=24.0, metavar="HOURS")
    prune.set_defaults(command=_prune)
    return parser


def _settings() -> tuple[Home, Configuration]:
    folder = Path(os.environ.get("SLIPWAY_CONFIG") or FOLDER)
    return find_home(folder.parent), load(folder)


def _store(asked: argparse.Namespace) -> Store:
    url = asked.url or _settings()[1].platform.artifacts.url
    if not url:
        raise ArtifactsError("no store of artifacts: give --url, or set SLIPWAY_ARTIFACTS_URL")
    return Store(url)


def _fetch(asked: argparse.Namespace) -> int:
    folder = fetch_bento(_store(asked), asked.bento, asked.digest, asked.into.absolute())
    sys.stdout.write(f"{folder}\n")
    return 0


def _publish(asked: argparse.Namespace) -> int:
    home, _ = _settings()
    for line in publish_home(home, _store(asked)):
        sys.stdout.write(f"{line}\n")
    return 0


def _verify(asked: argparse.Namespace) -> int:
    found = list(problems(_store(asked)))
    for line in found:
        sys.stderr.write(f"{line}\n")
    return 1 if found else 0


def _prune(asked: argparse.Namespace) -> int:
    store, (home, configuration) = _store(asked), _settings()
    with open_ledger(home, configuration) as ledger:
        deployed = {live.bento_digest for event in ledger.events() for live in event.live}
    for item in surplus(store, deployed, timedelta(hours=asked.older_than_hours)):
        if asked.delete:
            store.remove(item.name)
        done = "removed" if asked.delete else "would remove"
        sys.stdout.write(f"{done} {item.name} ({item.size} bytes)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
