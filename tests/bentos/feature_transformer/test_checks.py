"""Settings that do not belong to the definitions are refused, and the message says where."""

from pathlib import Path

import pytest

from bentos.feature_transformer.checks import require_consistent
from bentos.feature_transformer.settings import (
    FeaturesConfig,
    FeaturesError,
    ViewConfig,
    read_config,
)
from feature_repo.description import (
    Description,
    Feature,
    FeatureServiceDescription,
    Field,
    View,
)

PROFILE = (Field("age", "int64"), Field("income", "float64"), Field("region", "string"))
DESCRIPTION = Description(
    project="tests",
    digest="0" * 64,
    views=(
        View("profile", "feature_view", (Field("customer_id", "int64"),), PROFILE),
        View("length", "on_demand", (), (Field("length", "int64"),)),
    ),
    services=(
        FeatureServiceDescription(
            "churn",
            (Field("customer_id", "int64"),),
            (Feature("age", "int64", "profile"), Feature("income", "float64", "profile")),
        ),
    ),
)


def refusal(config: FeaturesConfig) -> str:
    with pytest.raises(FeaturesError) as raised:
        require_consistent(config, DESCRIPTION)
    return str(raised.value)


def of(**view: object) -> FeaturesConfig:
    return FeaturesConfig(views={"profile": ViewConfig(**view)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (of(on_unknown="default"), "on_unknown: default"),
        (of(on_stale="default", defaults={"income": 1}), "on_stale: default"),
        (FeaturesConfig(on_store_down="default"), "on_store_down: default"),
    ],
)
def test_every_feature_that_a_service_asks_for_needs_its_default(
    config: FeaturesConfig, reason: str
) -> None:
    message = refusal(config)
    assert message.startswith("serving_config/features.yaml: views.profile.defaults lacks age")
    assert message.endswith(f"which {reason} needs")


def test_a_feature_that_no_service_asks_for_needs_none() -> None:
    defaults = {"age": 40, "income": 30_000}
    require_consistent(of(on_unknown="default", on_stale="default", defaults=defaults), DESCRIPTION)


@pytest.mark.parametrize(
    ("default", "words"),
    [
        ({"age": 40.5}, "defaults.age: expected an integer within int64, got 40.5"),
        ({"age": True}, "defaults.age: expected an integer within int64, got true"),
        ({"age": "40"}, 'defaults.age: expected an integer within int64, got the text "40"'),
        ({"income": float("nan")}, "defaults.income: expected a number within float64, got NaN"),
        ({"region": 1}, "defaults.region: expected a text, got 1"),
        ({"ages": 1}, "defaults.ages: the view has no such feature; it has age, income, region"),
    ],
)
def test_a_default_of_another_type_or_feature_is_refused(
    default: dict[str, object], words: str
) -> None:
    assert words in refusal(of(defaults=default))


@pytest.mark.parametrize("name", ["profiles", "length"])
def test_settings_of_a_view_that_has_no_values_are_refused(name: str) -> None:
    message = refusal(FeaturesConfig(views={name: ViewConfig()}))
    assert f"there is no feature view {name}; there is: profile" in message


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.json"
    with pytest.raises(FeaturesError, match="cannot read"):
        read_config(path)
    path.write_text('{"on_store_down": "guess"}')
    with pytest.raises(FeaturesError, match=r"features\.json: .*on_store_down"):
        read_config(path)
