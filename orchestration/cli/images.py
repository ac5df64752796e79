"""`slipway build-images`: container images, of verified releases alone."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import click

from deploy.docker.engine import Build, Engine, Image
from deploy.docker.images import (
    bento_build,
    orchestration_build,
    revision,
    server_build,
    serving_name,
)
from deploy.docker.sbom import find_syft, write_sbom
from deploy.live import most_traffic
from deploy.platform import LocalPlatform
from deploy.release import Release
from deploy.versions import built_labels, built_release, live_release
from orchestration.cli.context import configured_model, existing_ledger, local_platform
from orchestration.cli.output import console, megabytes, show_json, step
from orchestration.cli.version_label import VersionLabel

_GENERIC, _ONE_BENTO = "slipway/model-server:latest", "slipway/{model}:{bento}"


class NothingBuiltError(RuntimeError):
    """The model has no Bento."""


def chosen_release(
    platform: LocalPlatform, model: str, version: str | None, environment: str
) -> Release:
    """The version's; without one, what has the most traffic there, or else the newest that was
    built. Raises where it is not there, was changed, or is not proved for the environment."""
    release = _found(platform, model, version, environment)
    release.require_certificate(environment)
    return release


def _found(platform: LocalPlatform, model: str, version: str | None, environment: str) -> Release:
    home = platform.home
    if version is None:
        with existing_ledger(platform) as ledger:
            live = most_traffic(ledger.state(environment, model).live)
        if live is not None:
            return live_release(home, live)
        labels = built_labels(home, model)
        if not labels:
            raise NothingBuiltError(
                f"no Bento of {model} was built in {home.root}: `slipway release {model}`"
            )
        version = labels[-1]
    return built_release(home, model, version)


def _builds(
    platform: LocalPlatform,
    releases: list[Release],
    arguments: dict[str, str],
    extra_ca: Path | None,
    tag: str,
) -> Iterator[AbstractContextManager[Build]]:
    """Orchestration, the model server, and one for each release."""
    name = platform.configuration.platform.kubernetes.image
    one_each = "{bento}" in name
    yield orchestration_build(f"slipway/orchestration:{tag}", arguments, extra_ca)
    yield server_build(_GENERIC if one_each else name, arguments, extra_ca)
    for release in releases:
        own = serving_name(name if one_each else _ONE_BENTO, release)
        model, _, version = release.tag.partition(":")
        folder = platform.home.bentoml / "bentos" / model / version
        yield bento_build(own, release, folder, arguments, extra_ca)


@click.command("build-images")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--version", type=VersionLabel(), help="Of the one MODEL, as 3 or 3-int8.")
@click.option("--environment", default="production", help="What is live there, proved for there.")
@click.option("--tag", default="latest", help="Of slipway/orchestration.")
@click.option("--base-image", envvar="BASE_IMAGE", help="With Python 3.11; Debian's Python does.")
@click.option(
    "--extra-ca",
    envvar="EXTRA_CA",
    type=click.Path(path_type=Path),
    help="PEM of an authority to trust while building, or a folder of *.crt.",
)
@click.option("--sbom", type=click.Path(path_type=Path), help="Write CycloneDX files there, too.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def build_images(
    models: tuple[str, ...],
    version: str | None,
    environment: str,
    tag: str,
    base_image: str | None,
    extra_ca: Path | None,
    sbom: Path | None,
    as_json: bool,
) -> None:
    """Build the platform's image, the model server's, and one for each MODEL's Bento."""
    if version is not None and len(models) != 1:
        raise click.UsageError("--version is about one MODEL")
    engine = Engine()
    engine.require()
    if sbom is not None:
        find_syft()
    platform = local_platform()
    for model in models:
        configured_model(platform, model)
    releases = [chosen_release(platform, model, version, environment) for model in models]
    arguments = {"REVISION": revision()} | ({"BASE_IMAGE": base_image} if base_image else {})
    built = [
        _built(engine, build, sbom)
        for build in _builds(platform, releases, arguments, extra_ca, tag)
    ]
    if as_json:
        show_json(built)


def _built(engine: Engine, build: AbstractContextManager[Build], sbom: Path | None) -> Image:
    with build as prepared, step(f"{prepared.name} is built") as say:
        image = engine.build(prepared, say)
    console.print(f"  {megabytes(image.size_bytes)}, {image.digest}", style="dim", markup=False)
    if sbom is not None:
        with step("its contents are listed"):
            path = write_sbom(image.name, sbom)
        console.print(f"  {path}", style="dim", markup=False)
    return image
