"""The feature store and its transformer are brought to the definitions and settings as they are.

Nothing here imports Feast, which takes seconds: applying is a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

import feature_repo
from deploy.features import (
    TransformerRecord,
    keep_running,
    transformer_process,
    uses_features,
    write_record,
)
from deploy.platform import LocalPlatform
from deploy.supervision import Supervisor
from feature_repo.description import Description, digest, read_description

_APPLY_SECONDS = 300
# DuckDB's binding says so when its process ends.
_NOISE = ("nanobind:", " - leaked", " - ... skipped", "See https://nanobind")


class ApplyError(RuntimeError):
    """The definitions cannot be applied; one line."""


def ensure_features(platform: LocalPlatform) -> TransformerRecord | None:
    """Apply the definitions if they changed, and build the transformer's Bento if that would be
    another; None where no model has a feature service.

    May be killed at any moment and called again. ApplyError, FeaturesError, BuildError.
    """
    if not uses_features(platform.configuration):
        return None
    from orchestration.build_transformer import build_transformer

    description = _applied(platform)
    if description is None:
        apply_definitions(platform)
        description = _applied(platform)
    if description is None:
        raise ApplyError("the feature definitions changed while they were applied; try again")
    features = platform.configuration.features
    bento = build_transformer(features, description, platform.home.bentoml)
    record = TransformerRecord(bento.tag, bento.digest)
    write_record(platform.home, record)
    return record


def follow_features(platform: LocalPlatform) -> bool:
    """Bring the running platform to the transformer that is recorded: restart it, or stop it.
    Returns whether anything changed."""
    process = transformer_process(platform.home, platform.configuration)
    return keep_running(Supervisor(platform.home), process, platform.working_directory)


def _applied(platform: LocalPlatform) -> Description | None:
    """What was applied, if it is what the definitions say now."""
    try:
        description = read_description(platform.home.features)
    except (FileNotFoundError, msgspec.DecodeError):  # none yet, or of an older version
        return None
    store = Path(feature_repo.__file__).parent / platform.configuration.features.store
    return description if description.digest == digest(store) else None


def apply_definitions(platform: LocalPlatform) -> str:
    """Apply them in a process of its own, whatever was applied before; what it says. ApplyError."""
    command = [sys.executable, "-m", "feature_repo.apply"]
    command += ["--store", platform.configuration.features.store]
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter and module
            command,
            env=os.environ | platform.environment(),
            cwd=platform.working_directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_APPLY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ApplyError(
            f"applying the feature definitions was not done after {_APPLY_SECONDS} s"
        ) from error
    if child.returncode != 0:
        lines = [line for line in child.stderr.splitlines() if line.strip()]
        said = [line.strip() for line in lines if not line.startswith(_NOISE)]
        reason = said[-1] if said else f"exit code {child.returncode} and no output"
        raise ApplyError(f"the feature definitions cannot be applied: {reason}")
    return child.stdout.strip()
