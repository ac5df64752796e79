"""`slipway materialize` and `slipway features`: the feature store from a shell."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.table import Table

from deploy.dagster_client import DagsterClient
from deploy.dagster_names import ACTOR_TAG, materialize_job
from deploy.platform import LocalPlatform
from deploy.supervision import Supervisor
from feature_repo.description import Description, FeatureServiceDescription, Field, View
from orchestration.cli import feature_values
from orchestration.cli.context import local_platform, require_up
from orchestration.cli.follow import follow
from orchestration.cli.ledger import Moment
from orchestration.cli.output import ago, console, show_json
from orchestration.cli.status import dagster_url
from orchestration.cli.traffic import actor
from orchestration.features.errors import FeatureError
from orchestration.features.freshness import freshness
from orchestration.features.store import read_description
from orchestration.features.watermarks import read_watermark
from orchestration.features.windows import last_key, rfc3339
from orchestration.features_setup import apply_definitions, ensure_features, follow_features

_TIME = "as --at of `slipway ledger`: a time, a date, or how long ago (90s, 5min, 2h, 3d)"


@click.command()
@click.argument("views", nargs=-1, metavar="[VIEW]...")
@click.option("--since", type=Moment(), help=f"{_TIME}; what is missing if left out.")
@click.option("--until", type=Moment(), help="The same; the last full hour or day if left out.")
def materialize(views: tuple[str, ...], since: datetime | None, until: datetime | None) -> None:
    """Bring feature VIEWs (all that are configured if left out) into the online store.

    Whatever was missed before is caught up. --since does a span again that was done before.
    """
    platform = local_platform()
    wanted = _configured(platform, views)
    require_up(platform)
    if since and until and since >= until:
        raise FeatureError("--since has to be before --until")
    dagster = DagsterClient(dagster_url(platform))
    span = {name: rfc3339(at) for name, at in (("since", since), ("until", until)) if at}
    runs = [_launch(platform, dagster, view, span) for view in wanted]
    for run in runs:
        follow(dagster, run)
    _show_views(platform, read_description(platform.home), wanted)


def _configured(platform: LocalPlatform, views: Sequence[str]) -> list[str]:
    configured = platform.configuration.features.views
    if unknown := sorted(set(views) - set(configured)):
        raise FeatureError(
            f"no view {unknown[0]!r} in {platform.config_folder / 'features.yaml'}; views: "
            f"{', '.join(sorted(configured)) or 'none'}"
        )
    if not configured:
        raise FeatureError(f"{platform.config_folder / 'features.yaml'} configures no views")
    return list(dict.fromkeys(views)) or list(configured)


def _launch(
    platform: LocalPlatform, dagster: DagsterClient, view: str, span: dict[str, str]
) -> str:
    every = platform.configuration.features.views[view].every
    return dagster.launch(
        materialize_job(view),
        last_key(every, datetime.now(UTC)),
        {ACTOR_TAG: actor()},
        configuration={"ops": {f"features__{view}": {"config": span}}} if span else None,
    )


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.pass_context
def features(context: click.Context, as_json: bool) -> None:
    """The feature store: its views and how fresh they are, and its feature services."""
    if context.invoked_subcommand is not None:
        return
    platform = local_platform()
    description = read_description(platform.home)
    if as_json:
        services = [_service_item(item) for item in description.services]
        show_json({"views": _view_items(platform, description), "services": services})
        return
    _show_views(platform, description)
    _show_services(description)


def _view_items(platform: LocalPlatform, description: Description) -> list[dict[str, Any]]:
    return [_view_item(platform, view, datetime.now(UTC)) for view in description.views]


def _view_item(platform: LocalPlatform, view: View, now: datetime) -> dict[str, Any]:
    """freshness: None for a view that is not materialized by schedule."""
    settings = platform.configuration.features
    configured = settings.views.get(view.name)
    mark = read_watermark(platform.home, view, settings.store) if configured else None
    found = freshness(view.name, configured, mark, now) if configured else None
    return {
        "view": view.name,
        "kind": view.kind,
        "entities": _names(view.entities),
        "features": _names(view.features),
        "every": configured.every if configured else None,
        "ttl_seconds": view.ttl_seconds,
        "watermark": mark and rfc3339(mark.until),
        "age_seconds": mark and (now - mark.until).total_seconds(),
        "fresh": found and found.status == "passed",
        "rows": mark and mark.rows,
        "summary": found.summary if found else "",
    }


def _service_item(service: FeatureServiceDescription) -> dict[str, Any]:
    return {
        "service": service.name,
        "entities": _names(service.entities),
        "request": _names(service.request),
        "features": [item.name for item in service.features],
    }


def _names(fields: Sequence[Field]) -> list[str]:
    return [field.name for field in fields]


def _show_views(
    platform: LocalPlatform, description: Description, only: Sequence[str] = ()
) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("view", "entities", "features", "every", "watermark", "age", "last rows", ""):
        table.add_column(name)
    for item in _view_items(platform, description):
        if only and item["view"] not in only:
            continue
        on_demand = item["kind"] == "on_demand"
        fresh = {True: "[green]fresh[/]", False: "[red]stale[/]", None: ""}[item["fresh"]]
        table.add_row(
            item["view"],
            ", ".join(item["entities"]),
            str(len(item["features"])),
            item["every"] or ("on demand" if on_demand else "not scheduled"),
            item["watermark"] or "",
            ago(item["age_seconds"]) if item["age_seconds"] is not None else "",
            "" if item["rows"] is None else f"{item['rows']:,}",
            fresh,
        )
    console.print(table)


def _show_services(description: Description) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("feature service", "entities", "from the request", "features"):
        table.add_column(name)
    for item in map(_service_item, description.services):
        table.add_row(item["service"], *(", ".join(item[name]) for name in _SERVICE))
    console.print()
    console.print(table)


_SERVICE = ("entities", "request", "features")


@features.command()
def apply() -> None:
    """Bring the store to the definitions of feature_repo/, as `feast apply` does, and the feature
    transformer if the platform is up."""
    platform = local_platform()
    platform.home.create()
    console.print(apply_definitions(platform), markup=False, soft_wrap=True)
    if Supervisor(platform.home).running():
        ensure_features(platform)
        if Supervisor(platform.home).only_servers():
            console.print("restart the part feature-transformer: it follows the definitions then")
        elif follow_features(platform):
            console.print("the feature transformer follows the changed definitions")


features.add_command(feature_values.get)
