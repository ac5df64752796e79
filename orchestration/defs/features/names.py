"""What the features' parts are called in Dagster."""

import dagster as dg

from serving_config.schema import Configuration, Model

GROUP = "features"
EXAMPLE_SOURCES = dg.AssetKey([GROUP, "example_sources"])
_EXAMPLES = "orchestration.examples."


def view_key(view: str) -> dg.AssetKey:
    """The asset `features/<view>`."""
    return dg.AssetKey([GROUP, view])


def pool(view: str) -> str:
    """Of one view one run at a time."""
    return f"features_{view}"


def has_examples(configuration: Configuration) -> bool:
    """Whether a configured model is one of the examples that ask for features: their sources are
    made up here, and nobody else writes them."""
    return any(_is_example(model) for model in configuration.models.values())


def _is_example(model: Model) -> bool:
    return model.feature_service is not None and (model.training or "").startswith(_EXAMPLES)
