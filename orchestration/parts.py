"""What a part of the platform needs before it runs by itself, and then becoming it."""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from bentos.feature_transformer.settings import FeaturesError
from deploy.dagster_files import write_dagster_yaml, write_workspace
from deploy.features import TRANSFORMER, read_record
from deploy.keys import take_mounted
from deploy.parts import (
    CODE_SERVER,
    close_to_strangers,
    hold,
    prepare_gateway,
    process,
)
from deploy.platform import DAEMON, GATEWAY, WEBSERVER, LocalPlatform
from deploy.processes import PART
from orchestration.bento_builder import BuildError
from orchestration.features_setup import ApplyError, ensure_features
from orchestration.recovery import fail_interrupted_runs, prepare_storage


def become(platform: LocalPlatform, part: str) -> NoReturn:
    """This process becomes that part."""
    home = platform.home.create()
    hold(home, part)
    take_mounted(home)
    platform.require_port("dagster-code" if part == CODE_SERVER else part)
    os.environ.update(platform.environment() | {PART: part})
    if warning := close_to_strangers(platform):
        _say(part, warning)
    _prepare(platform, part)
    spec = process(platform, part)
    os.chdir(platform.working_directory)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # a shell has them ignored in the background
    sys.stdout.flush()
    os.execvpe(spec.command[0], spec.command, os.environ | spec.environment)  # noqa: S606


def _prepare(platform: LocalPlatform, part: str) -> None:
    if part == GATEWAY:
        prepare_gateway(platform)
    elif part in (WEBSERVER, DAEMON, CODE_SERVER):
        _prepare_dagster(platform, part)
    elif part == TRANSFORMER:
        _prepare_features(platform)


def _prepare_dagster(platform: LocalPlatform, part: str) -> None:
    settings = platform.configuration.platform.dagster
    with _one_at_a_time(platform, "dagster"):
        write_dagster_yaml(platform.home, platform.configuration)
        write_workspace(platform.home, settings.code_server)
        prepare_storage(platform.home.dagster, settings.storage)
        # Runs live in the code server: when it starts, none of them can be alive.
        lost = fail_interrupted_runs(platform.home.dagster) if part == CODE_SERVER else []
    for run_id in lost:
        _say(part, f"run {run_id} was interrupted; it will be tried again")


def _prepare_features(platform: LocalPlatform) -> None:
    """With definitions that cannot be applied, the transformer that was built last goes on."""
    try:
        with _one_at_a_time(platform, "features"):
            ensure_features(platform)
    except (ApplyError, BuildError, FeaturesError) as error:
        if read_record(platform.home) is None:
            raise
        _say(TRANSFORMER, f"the features are not as defined: {error}")


@contextmanager
def _one_at_a_time(platform: LocalPlatform, what: str) -> Iterator[None]:
    with (platform.home.run / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(part: str, text: str) -> None:
    sys.stderr.write(f"slipway run {part}: {text}\n")
    sys.stderr.flush()
