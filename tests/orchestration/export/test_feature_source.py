"""A model and its feature service have to fit, or the version is refused before it is built."""

from pathlib import Path

import msgspec
import pytest

from bentos.model_server.contract import Contract, Entity, FeatureSource, GraphInput, Input, Outputs
from feature_repo import description as store
from orchestration.export import UnservableModel
from orchestration.export.feature_source import described, feature_source, require_feature_source
from orchestration.export.signature import Field
from serving_config.schema import Model

MODEL = Model(name="spam-detector", feature_service="spam_detector")
SERVICE = store.FeatureServiceDescription(
    name="spam_detector",
    entities=(store.Field("sender", "string"),),
    features=(
        store.Feature("reports", "int64", "sender_activity"),
        store.Feature("age_days", "int64", "sender_activity"),
        store.Feature("length", "int64", "text_statistics"),
    ),
    request=(store.Field("email_content", "string"),),
)
STORE = store.Description("slipway", "0" * 64, (), (SERVICE,))
INPUTS = [Field("email_content", "string"), Field("length", "int64"), Field("reports", "int64")]


def test_what_the_service_provides_and_what_the_request_has_to_say() -> None:
    assert feature_source(MODEL, INPUTS, STORE) == FeatureSource(
        service="spam_detector",
        entities=(Entity("sender", "string"),),
        provided=("length", "reports"),
        request=("email_content",),
    )


def test_a_model_without_a_feature_service_needs_no_store(tmp_path: Path) -> None:
    model = Model(name="iris")
    assert described(tmp_path, model) is None
    assert feature_source(model, [Field("x", "float64")], None) is None


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        ([*INPUTS, Field("repotrs", "int64")], ("'repotrs'", "spam_detector", "add it there")),
        ([*INPUTS[:2], Field("reports", "float64")], ("'reports'", "float64", "with int64")),
        ([*INPUTS, Field("sender", "string")], ("'sender'", "entity key", "train without")),
        (INPUTS[1:], ("'email_content'", "spam_detector", "train with it")),
    ],
    ids=["unknown", "another type", "entity key", "request field that is no input"],
)
def test_a_service_that_does_not_match_is_refused_with_the_fix(
    inputs: list[Field], wanted: tuple[str, ...]
) -> None:
    with pytest.raises(UnservableModel) as refused:
        feature_source(MODEL, inputs, STORE)
    assert all(part in str(refused.value) for part in wanted)


def test_a_service_that_is_not_there_is_refused_with_those_that_are() -> None:
    model = Model(name="spam-detector", feature_service="spam")
    with pytest.raises(
        UnservableModel, match=r"no feature service 'spam' .* there is: spam_detector"
    ):
        feature_source(model, INPUTS, STORE)


def test_without_applied_definitions_the_error_says_what_to_run(tmp_path: Path) -> None:
    path = tmp_path / "description.json"
    with pytest.raises(UnservableModel, match="slipway features apply"):
        described(tmp_path, MODEL)
    path.write_text('{"project": 1}')
    with pytest.raises(UnservableModel, match=r"description\.json: Expected `str`"):
        described(tmp_path, MODEL)
    path.write_bytes(msgspec.json.encode(STORE))
    assert described(tmp_path, MODEL) == STORE


def exported() -> Contract:
    return Contract(
        model=MODEL.name,
        version=3,
        onnx_sha256="0" * 64,
        inputs=tuple(Input(field.name, field.dtype) for field in INPUTS),
        graph_inputs=(GraphInput("reports", "int64", ("reports",)),),
        outputs=Outputs("regression", "y"),
        feature_source=feature_source(MODEL, INPUTS, STORE),
        example={},
    )


def test_a_version_whose_feature_service_has_changed_is_refused(tmp_path: Path) -> None:
    def check(**changes: object) -> None:
        service = msgspec.structs.replace(SERVICE, **changes)
        described = msgspec.structs.replace(STORE, services=(service,))
        (tmp_path / "description.json").write_bytes(msgspec.json.encode(described))
        require_feature_source(tmp_path, MODEL, exported())

    check()
    more = (*SERVICE.features, store.Feature("new", "bool", "sender_activity"))
    check(features=more)  # the model does not ask for it
    with pytest.raises(UnservableModel, match="not what version 3 of spam-detector was exported"):
        check(entities=(store.Field("address", "string"),))
    with pytest.raises(UnservableModel, match="'reports' is neither a feature"):
        check(features=SERVICE.features[1:])
    floats = (store.Feature("reports", "float64", "sender_activity"), *SERVICE.features[1:])
    with pytest.raises(UnservableModel, match=r"'reports' is int64 .* and float64"):
        check(features=floats)
