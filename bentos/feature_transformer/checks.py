"""Whether `features.json` belongs to the definitions: looked at when the Bento is built, and again
when it starts."""

from collections.abc import Iterator

from bentos.feature_transformer.settings import FeaturesConfig, FeaturesError, Scalar
from bentos.model_server.fields import RANGES, Field
from feature_repo.description import Description, Feature, View
from feature_repo.description import Field as Described

PLACE = "serving_config/features.yaml"


def require_consistent(config: FeaturesConfig, description: Description) -> None:
    """Raise FeaturesError for the first view that is not there, default that is missing (of a
    feature that some service asks for), or default of another type than its feature's."""
    for complaint in _complaints(config, description):
        raise FeaturesError(complaint)


def typed(field: Described | Feature) -> Field:
    """A field as a model's input is checked: required, within its dtype's range."""
    low, high = RANGES.get(field.dtype, (None, None))
    return Field(field.name, field.dtype, True, low, high, None, None)


def _complaints(config: FeaturesConfig, description: Description) -> Iterator[str]:
    views = {view.name: view for view in description.views if view.kind == "feature_view"}
    for name in sorted(config.views.keys() - views.keys()):
        known = ", ".join(sorted(views)) or "none"
        yield f"{PLACE}: there is no feature view {name}; there is: {known}"
    for name, view in sorted(views.items()):
        yield from _wrong_defaults(view, config.view(name).defaults)
        if reason := _needs_defaults(name, config):
            asked = _asked_for(name, description)
            missing = [feature for feature in asked if feature not in config.view(name).defaults]
            if missing:
                yield (
                    f"{PLACE}: views.{name}.defaults lacks {', '.join(missing)}, "
                    f"which {reason} needs"
                )


def _needs_defaults(name: str, config: FeaturesConfig) -> str | None:
    view = config.view(name)
    if view.on_unknown == "default":
        return "on_unknown: default"
    if view.on_stale == "default":
        return "on_stale: default"
    return "on_store_down: default" if config.on_store_down == "default" else None


def _asked_for(view: str, description: Description) -> list[str]:
    found = (item for service in description.services for item in service.features)
    return sorted({feature.name for feature in found if feature.view == view})


def _wrong_defaults(view: View, defaults: dict[str, Scalar]) -> Iterator[str]:
    features = {feature.name: feature for feature in view.features}
    for name, value in sorted(defaults.items()):
        place = f"{PLACE}: views.{view.name}.defaults.{name}"
        if name not in features:
            yield f"{place}: the view has no such feature; it has {', '.join(features)}"
        elif message := typed(features[name]).complaint(value):
            yield f"{place}: {message}"
