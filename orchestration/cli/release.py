"""`slipway release` and `promote`: a version to production, by a Dagster run that is followed."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from bentos.model_server.certificate import CertificateError
from deploy.challenge import ChallengeError
from deploy.gateway.routes import cluster_name
from deploy.ledger import open_ledger
from deploy.platform import LocalPlatform
from deploy.release import Release, ReleaseError
from deploy.versions import MissingFileError, VersionFolder, built_release
from orchestration.cli.context import configured_model, local_platform, require_up
from orchestration.cli.follow import RunFailedError
from orchestration.cli.models import (
    UnknownVersionError,
    launch,
    live_version,
    resolve_version,
    version_option,
)
from orchestration.cli.output import console
from orchestration.cli.traffic import open_traffic
from serving_config.schema import Model

_STAGING, _PRODUCTION = "staging", "production"
_policy = click.option(
    "--policy",
    type=click.Choice(["direct", "blue_green", "canary"]),
    help="Another way than the settings' to replace what serves, this once.",
)


class RolledBackError(RunFailedError):
    """The version did worse than the one before, which serves again."""


@click.command()
@click.argument("model")
@version_option
@_policy
@click.option(
    "--environment",
    type=click.Choice([_STAGING, _PRODUCTION]),
    default=_PRODUCTION,
    show_default=True,
    help="staging: tested there, and no further by this command.",
)
def release(model: str, version: str | None, policy: str | None, environment: str) -> None:
    """Take a version of MODEL through staging to production; what is proved already, at once."""
    platform = local_platform()
    settings = configured_model(platform, model)
    require_up(platform)
    label, proved = _found(platform, settings, version)
    if environment == _STAGING:
        launch(platform, settings, label, _STAGING)
        console.print(f"[green]staging serves {model} version {label}[/]")
        return
    if proved is None:
        launch(platform, settings, label, _STAGING)
    else:
        console.print(f"[dim]{model} version {label} was proved before: straight to production[/]")
    _to_production(platform, settings, label, policy)


@click.command()
@click.argument("model")
@version_option
@_policy
def promote(model: str, version: str | None, policy: str | None) -> None:
    """Take a version of MODEL to production: what staging serves, or the one you name."""
    platform = local_platform()
    settings = configured_model(platform, model)
    require_up(platform)
    wanted = version or live_version(platform, _STAGING, model)
    if wanted is None:
        raise UnknownVersionError(
            f"staging serves no version of {model}: `slipway release {model}`"
        )
    label, _ = _found(platform, settings, wanted)
    _to_production(platform, settings, label, policy)


def _found(
    platform: LocalPlatform, model: Model, version: str | None
) -> tuple[str, Release | None]:
    """The version, and its release if it was built and proved.

    The registry is asked only for what is not built here: its client takes seconds to import.
    """
    if version is not None and (built := _proved(platform, model, version)):
        return version, built
    label = resolve_version(platform, model, version)
    return label, _proved(platform, model, label)


def _proved(platform: LocalPlatform, model: Model, version: str) -> Release | None:
    """The release, if it may go to production as it is; the run says what is wrong otherwise."""
    try:
        built = built_release(platform.home, model.name, version)
        built.require_certificate(_PRODUCTION)
    except (MissingFileError, ReleaseError, CertificateError):
        return None
    return built


def _to_production(platform: LocalPlatform, model: Model, version: str, policy: str | None) -> None:
    _warn_of_a_worse_one(platform, model, version)
    before = _last_event(platform, model.name)
    try:
        with _started_early(platform, _proved(platform, model, version)):
            launch(platform, model, version, _PRODUCTION, policy=policy)
    except RunFailedError as error:
        if reason := _rolled_back_since(platform, model.name, before):
            raise RolledBackError(
                f"{model.name} version {version} was rolled back: {reason}"
            ) from error
        raise
    serves = live_version(platform, _PRODUCTION, model.name)
    console.print(f"[green]production serves {model.name} version {serves}[/]")


def _warn_of_a_worse_one(platform: LocalPlatform, model: Model, version: str) -> None:
    """A person may promote what would not promote itself."""
    try:
        challenge = VersionFolder.of(platform.home, model.name, version).challenge()
    except (MissingFileError, ChallengeError):
        return  # versions that were built by hand have none
    if not challenge.passed:
        console.print(
            f"note: better_than_production failed ({challenge.verdict}); promoted all the same, "
            "because you ask for it",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


@contextmanager
def _started_early(platform: LocalPlatform, built: Release | None) -> Iterator[None]:
    """The model server starts while Dagster starts the run: both take seconds."""
    if built is None:
        yield
        return
    with open_traffic(platform) as traffic:
        try:
            with traffic.target.hold(cluster_name(_PRODUCTION, built.model, built.live())):
                traffic.target.start(built, _PRODUCTION)
                yield
        finally:
            traffic.tidy(_PRODUCTION, built.model)


def _last_event(platform: LocalPlatform, model: str) -> int:
    with open_ledger(platform.home, platform.configuration) as ledger:
        event = ledger.last_event(_PRODUCTION, model)
    return event.id if event else 0


def _rolled_back_since(platform: LocalPlatform, model: str, event_id: int) -> str | None:
    """The reason of a rollback after that event."""
    with open_ledger(platform.home, platform.configuration) as ledger:
        events = ledger.events(model, _PRODUCTION, after=event_id)
    reasons = (event.evidence.get("reason") for event in events if event.action == "rollback")
    return next((str(reason) for reason in reasons), None)
