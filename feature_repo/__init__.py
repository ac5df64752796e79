"""Slipway's feature definitions, for Feast: entities, sources, feature views, feature services."""

import importlib
import sys
from types import ModuleType
from typing import Any


def _torch() -> Any:
    return importlib.import_module("torch")


# Feast imports torch, where it is installed, only to have it at hand for one conversion. That costs
# every process of ours 2 s and 180 MB.
_wrapper = ModuleType("feast.torch_wrapper")
vars(_wrapper)["get_torch"] = _torch
sys.modules.setdefault(_wrapper.__name__, _wrapper)
