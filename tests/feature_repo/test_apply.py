import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from feast import FeatureService, FeatureView, Field
from feast.types import Bytes, Int64

from feature_repo import definitions, description, views
from feature_repo.apply import apply
from feature_repo.describe import DefinitionError, describe
from feature_repo.description import read_description
from feature_repo.entities import customer
from feature_repo.sources import customer_profile_source
from feature_repo.store import StoreError, feast_objects, open_store


def test_the_description_names_what_a_request_gives_and_gets(home: Path) -> None:
    description = apply(home)
    assert read_description(home) == description
    churn, spam = description.service("customer_churn"), description.service("spam_detector")
    assert [(key.name, key.dtype) for key in churn.entities] == [("customer_id", "int64")]
    assert {feature.name: feature.dtype for feature in churn.features} == {
        "age": "int64",
        "income": "float64",
        "credit_score": "int64",
        "account_age_days": "int64",
        "is_premium": "bool",
        "region": "string",
        "category_preference": "string",
        "num_purchases": "int64",
        "avg_transaction": "float64",
        "num_returns": "int64",
    }
    assert [(key.name, key.dtype) for key in spam.entities] == [("sender", "string")]
    assert [(field.name, field.dtype) for field in spam.request] == [("email_content", "string")]
    assert {feature.view for feature in spam.features} == {
        "sender_activity",
        "email_text_statistics",
    }
    ttls = {view.name: view.ttl_seconds for view in description.views}
    assert ttls["customer_profile"] == timedelta(days=3).total_seconds()
    assert ttls["email_text_statistics"] is None


def test_a_service_that_is_not_there_is_an_error_that_names_the_others(home: Path) -> None:
    with pytest.raises(KeyError, match="customer_churn, spam_detector"):
        apply(home).service("churn")


def test_applying_again_changes_nothing(home: Path) -> None:
    first = apply(home)
    before = open_store(home).get_feature_view("customer_profile").last_updated_timestamp
    assert apply(home) == first
    assert open_store(home).get_feature_view("customer_profile").last_updated_timestamp == before


def test_what_the_definitions_no_longer_have_is_deleted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = FeatureView(
        name="old",
        entities=[customer],
        schema=[Field(name="customer_id", dtype=Int64), Field(name="age", dtype=Int64)],
        source=customer_profile_source,
    )
    service = FeatureService(name="old_service", features=[old])
    monkeypatch.setattr(definitions, "old", old, raising=False)
    monkeypatch.setattr(definitions, "old_service", service, raising=False)
    assert apply(home).service("old_service")
    monkeypatch.undo()
    apply(home)
    store = open_store(home)
    assert "old" not in [view.name for view in store.list_feature_views()]
    assert "old_service" not in [item.name for item in store.list_feature_services()]
    assert len(store.list_feature_views()) == 3


def test_a_type_that_no_model_input_has_is_refused_by_name() -> None:
    picture = FeatureView(
        name="picture", schema=[Field(name="face", dtype=Bytes)], source=customer_profile_source
    )
    with pytest.raises(DefinitionError, match=r"picture: face is Bytes; use one of .*int64"):
        describe("slipway", [picture], "")


def test_two_features_of_one_name_are_refused_in_a_service() -> None:
    twin = FeatureView(
        name="twin", schema=[Field(name="age", dtype=Int64)], source=customer_profile_source
    )
    both = FeatureService(name="both", features=[twin, views.customer_profile])
    with pytest.raises(DefinitionError, match="both has age twice"):
        describe("slipway", [*feast_objects(views), twin, both], "")


def test_a_view_that_the_definitions_forgot_is_named() -> None:
    service = FeatureService(name="churn", features=[views.customer_profile])
    with pytest.raises(DefinitionError, match=r"churn reads customer_profile, which definitions"):
        describe("slipway", [service], "")


@pytest.mark.parametrize(
    ("store", "variables", "said"),
    [
        ("nothing.yaml", {}, "there is: feature_store.production.yaml, feature_store.yaml"),
        ("feature_store.production.yaml", {}, "SLIPWAY_FEATURES_REDIS is not set"),
        (
            "feature_store.production.yaml",
            {
                "SLIPWAY_FEATURES_REDIS": "127.0.0.1:1",
                "SLIPWAY_FEATURES_REGISTRY": "postgresql+psycopg://u:p@127.0.0.1:1/none",
            },
            "feature_store.production.yaml: .*Connection refused",
        ),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_line_that_says_why(
    home: Path, store: str, variables: dict[str, str], said: str
) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        open_store(home, store, variables)
    assert "\n" not in str(caught.value)


def test_the_command_applies_below_the_home_of_the_environment(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "feature_repo.apply"]
    variables = os.environ | {"SLIPWAY_FEATURES_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert "customer_churn, spam_detector" in done.stdout
    assert {file.name for file in (tmp_path / "home").iterdir()} >= {
        "description.json",
        "online.db",
        "registry.db",
    }
    wrong = subprocess.run(
        [*command, "--store", "none.yaml"], env=variables, capture_output=True, text=True
    )
    assert wrong.returncode == 1
    assert wrong.stderr.count("\n") == 1
    assert "none.yaml is not in" in wrong.stderr


def test_reading_the_description_does_not_import_feast() -> None:
    code = "import sys, feature_repo.description; sys.exit('feast' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_digest_is_of_folders_below_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(description, "__file__", str(tmp_path / "description.py"))
    store, below = tmp_path / "feature_store.yaml", tmp_path / "team" / "views.py"
    below.parent.mkdir()
    found = set()
    for text in ("a = 1", "a = 2"):
        store.write_text("project: x")
        below.write_text(text)
        found.add(description.digest(store))
    assert len(found) == 2
