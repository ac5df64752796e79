"""The feature definitions and their server become a Bento: the same inputs give the same tag.

`feature-transformer:<digest>` has the definitions as code, the settings of `features.yaml` as
`features.json`, and the pinned packages of the extra `transformer`.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

import bentos
import feature_repo
from bentos.feature_transformer.checks import require_consistent
from bentos.feature_transformer.settings import FEATURES_JSON, FeaturesConfig, ViewConfig
from bentos.model_server.bundle import tree_digest
from feature_repo.description import Description
from orchestration.bento_builder import (
    BuildError,
    BuiltBento,
    Recipe,
    checked_tag,
    copy_packages,
    ensure,
    redis_requirements,
    requirements,
    sources,
    write_requirements,
)
from serving_config.features import Features

NAME = "feature-transformer"
RECIPE = Recipe(
    service="bentos.feature_transformer.service:service",
    description="The online features of all feature services",
    include=("bentos/", "feature_repo/", FEATURES_JSON),
)


def transformer_config(features: Features) -> FeaturesConfig:
    """What the transformer has to know of `features.yaml`."""
    views = {
        name: ViewConfig(view.on_unknown, view.on_stale, dict(view.defaults))
        for name, view in features.views.items()
    }
    return FeaturesConfig(
        store=features.store,
        on_store_down=features.on_store_down,
        timeout_seconds=features.timeout_seconds,
        views=views,
    )


def build_transformer(features: Features, description: Description, bento_home: Path) -> BuiltBento:
    """Build it, or find it intact; bento_home: the BENTOML_HOME to build into.

    description: of the definitions that were applied. FeaturesError where the settings do not
    belong to them; BuildError where it cannot be built.
    """
    config = transformer_config(features)
    require_consistent(config, description)
    try:
        with tempfile.TemporaryDirectory(prefix="slipway-build-") as folder:
            context = Path(folder).resolve()
            _assemble(context, config)
            digest = tree_digest(context)
            tag = checked_tag(NAME, digest[:12])
            return ensure(context, bento_home.resolve(), tag, digest, RECIPE)
    except OSError as error:
        raise BuildError(
            f"the Bento {NAME} cannot be written: {error.strerror or error}"
            + (f": {error.filename}" if error.filename else "")
        ) from error


def _assemble(context: Path, config: FeaturesConfig) -> None:
    ours = sources("model_server", "prediction_log", "feature_transformer")
    copy_packages(context, Path(bentos.__file__).parents[1], ours)
    copy_packages(context, Path(feature_repo.__file__).parents[1], definitions())
    (context / FEATURES_JSON).write_bytes(msgspec.json.encode(config, order="sorted") + b"\n")
    write_requirements(context, [*requirements("transformer"), *redis_requirements()])


def definitions() -> Iterator[Path]:
    """The files of `feature_repo`: code and the stores' settings, and nothing that lies around."""
    folder = Path(feature_repo.__file__).parent
    yield from sorted([*folder.rglob("*.py"), *folder.glob("*.yaml"), folder / ".feastignore"])
