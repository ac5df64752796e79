"""Where the feature store of this machine is: `SLIPWAY_FEATURES_HOME`."""

import os
from collections.abc import Mapping
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def features_home(variables: Mapping[str, str] = os.environ) -> Path:
    """`SLIPWAY_FEATURES_HOME`, else `features` in `SLIPWAY_HOME` or in the checkout's `.slipway`.

    Nothing is created.
    """
    if named := variables.get("SLIPWAY_FEATURES_HOME"):
        return Path(named).resolve()
    return Path(variables.get("SLIPWAY_HOME") or CHECKOUT / ".slipway").resolve() / "features"
