"""Which checkout, which home: what every command starts from."""

import os
from pathlib import Path

from deploy.home import Home, find_home
from deploy.ledger import Ledger, open_ledger
from deploy.platform import LocalPlatform
from deploy.supervision import Supervisor
from serving_config.load import load
from serving_config.schema import Model


class CheckoutError(RuntimeError):
    """The command was called outside of a checkout."""


class DownError(RuntimeError):
    """The platform has to run for that, and does not."""


class UnknownModelError(ValueError):
    """No settings name this model."""


class NoLedgerError(RuntimeError):
    """Nothing was released yet."""


def find_config_folder(start: Path) -> Path:
    """SLIPWAY_CONFIG, or serving_config/ in `start` or a folder above it."""
    if configured := os.environ.get("SLIPWAY_CONFIG"):
        return Path(configured).absolute()
    for folder in (start, *start.parents):
        if (folder / "serving_config" / "platform.yaml").is_file():
            return folder / "serving_config"
    raise CheckoutError(
        f"{start} is not in a Slipway checkout (no serving_config/platform.yaml here or above): "
        "go to one, or set SLIPWAY_CONFIG"
    )


def local_home() -> Home:
    """The home of the checkout one stands in, whatever its settings say."""
    return find_home(find_config_folder(Path.cwd()).parent)


def local_platform() -> LocalPlatform:
    """The platform of the checkout one stands in; nothing is created or started."""
    folder = find_config_folder(Path.cwd())
    return LocalPlatform(find_home(folder.parent), load(folder), folder)


def configured_model(platform: LocalPlatform, name: str) -> Model:
    """A model's settings; UnknownModelError lists those there are."""
    models = platform.configuration.models
    if name not in models:
        raise UnknownModelError(
            f"no model {name!r} in {platform.config_folder / 'models'}; "
            f"models: {', '.join(sorted(models)) or 'none'}"
        )
    return models[name]


def existing_ledger(platform: LocalPlatform) -> Ledger:
    """The ledger, to be closed by the caller; NoLedgerError rather than a new, empty one."""
    file = platform.home.root / "ledger.db"
    if platform.configuration.platform.ledger_url is None and not file.exists():
        raise NoLedgerError(f"nothing was released yet: {file} is not there")
    return open_ledger(platform.home, platform.configuration)


def require_up(platform: LocalPlatform) -> None:
    """Raise DownError unless the platform runs; one on a cluster says that itself once asked."""
    environments = platform.configuration.environments.values()
    is_here = any(environment.target == "local" for environment in environments)
    if is_here and not Supervisor(platform.home).running():
        raise DownError(f"the platform is down ({platform.home.root}): `slipway up --detach`")
