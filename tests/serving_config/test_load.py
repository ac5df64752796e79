import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_config.features import Features
from serving_config.load import FOLDER, VARIABLES, ConfigurationError, load, read_yaml

Write = Callable[[str, str], Path]


def _refused(folder: Path, **variables: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, variables)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_shipped_settings_load() -> None:
    configuration = load(FOLDER, {})
    assert {"staging", "production"} <= set(configuration.environments)
    assert {"iris", "spam-detector"} <= set(configuration.models)
    assert configuration.platform.default_environment == "staging"
    assert configuration.platform.default_model in configuration.models
    assert configuration.platform.mlflow.uri == "http://127.0.0.1:5000"


def test_what_is_left_out_has_a_default_and_the_name_comes_from_the_file(folder: Path) -> None:
    configuration = load(folder, {})
    iris, spam = configuration.models["iris"], configuration.models["spam-detector"]
    assert (iris.name, iris.registered_model, iris.promotion) == ("iris", "iris", "auto")
    assert (spam.registered_model, spam.promotion) == ("Spam Detector", "manual")
    assert configuration.environments["production"].workers == 2
    assert configuration.platform.gateway.port == 8080


def test_the_gateway_lets_through_the_largest_body_that_any_model_takes(write: Write) -> None:
    folder = write("models/iris.yaml", "serving: {max_body_bytes: 10_000_000}")
    assert load(folder, {}).max_body_bytes == 10_000_000


# (file, its text, what the message says beside the file's name)
MISTAKES = {
    "an unknown key": ("models/iris.yaml", "promotoin: auto", ["promotoin", "'auto'", "promotion"]),
    "an unknown key one level down": (
        "models/iris.yaml",
        "verification: {tolerence: 0.1}",
        ["verification.tolerence", "0.1", "max_label_flips, max_share_over_tolerance, tolerance"],
    ),
    "a folder for batch jobs that depends on where one stands": (
        "platform.yaml",
        "batch: {locations: [/srv/tables, tables]}",
        ["batch.locations.1", "'tables' is relative", "absolute"],
    ),
    "a result of every day in the same place": (
        "models/iris.yaml",
        "batch: {output: s3://bucket/scored}",
        ["batch.output", "'s3://bucket/scored' is the same for every day", "{day}"],
    ),
    "an input that depends on where one stands": (
        "models/iris.yaml",
        "batch: {input: 'tables/{day}'}",
        ["batch.input", "'tables/{day}' is relative", "absolute"],
    ),
    "an unknown key of an input": (
        "models/iris.yaml",
        "inputs: {petal: {minimun: 0}}",
        ["inputs.petal.minimun", "categories, max_length, maximum, minimum"],
    ),
    "a wrong type": (
        "environments/staging.yaml",
        "workers: two",
        ["workers", "'two'", "valid integer"],
    ),
    "a yes where a number belongs": (
        "models/iris.yaml",
        "verification: {max_label_flips: yes}",
        ["verification.max_label_flips", "True", "valid integer"],
    ),
    "a choice there is not": (
        "models/iris.yaml",
        "promotion: soon",
        ["promotion", "'soon'", "'auto' or 'manual'"],
    ),
    "too small": ("environments/staging.yaml", "workers: 0", ["workers", "0", "equal to 1"]),
    "too large": ("platform.yaml", "gateway: {port: 65536}", ["gateway.port", "65536", "65535"]),
    "NaN": (
        "environments/staging.yaml",
        "ready_timeout_seconds: .nan",
        ["ready_timeout_seconds", "nan", "finite"],
    ),
    "infinity": (
        "environments/staging.yaml",
        "drain_timeout_seconds: .inf",
        ["drain_timeout_seconds", "inf", "finite"],
    ),
    "an infinite tolerance": (
        "models/iris.yaml",
        "verification: {tolerance: .inf}",
        ["verification.tolerance", "inf", "finite"],
    ),
    "an infinite limit of an input": (
        "models/iris.yaml",
        "inputs: {petal: {maximum: .inf}}",
        ["inputs.petal.maximum", "inf", "finite"],
    ),
    "limits the wrong way round": (
        "models/iris.yaml",
        "inputs: {petal: {minimum: 2, maximum: 1}}",
        ["inputs.petal", "minimum 2.0 is above maximum 1.0"],
    ),
    "no category": (
        "models/iris.yaml",
        "inputs: {petal: {categories: []}}",
        ["inputs.petal", "nothing would be allowed"],
    ),
    "categories that YAML reads as true and false": (
        "models/iris.yaml",
        "inputs: {petal: {categories: [yes, no]}}",
        ["inputs.petal.categories.0", "True", "valid string"],
    ),
    "a function without its module": (
        "models/iris.yaml",
        "training: train",
        ["training", "'train'", "match pattern"],
    ),
    "a registered model that MLflow would not take": (
        "models/iris.yaml",
        "registered_model: a/b",
        ["registered_model", "'a/b'", "contains '/' or ':'"],
    ),
    "an unknown limit of the gateway": (
        "platform.yaml",
        "gateway: {limits: {per_kye: {requests_per_second: 1}}}",
        ["gateway.limits.per_kye", "no such setting", "per_address, per_key"],
    ),
    "a key twice": (
        "platform.yaml",
        "default_model: iris\ndefault_model: spam-detector",
        ["'default_model' stands twice", "line 2"],
    ),
    "a key twice one level down": (
        "platform.yaml",
        "gateway:\n  port: 1\n  port: 2\n",
        ["'port' stands twice", "line 3"],
    ),
    "a list as a key": ("platform.yaml", "? [a, b]\n: 1", ["not valid YAML", "line 1"]),
    "a list": ("models/iris.yaml", "- promotion: auto", ["must be a mapping", "list"]),
    "an empty file": ("models/iris.yaml", "", ["must be a mapping", "NoneType"]),
    "no YAML": ("models/iris.yaml", "promotion: [auto", ["not valid YAML", "line 1"]),
    "a YAML tag": ("models/iris.yaml", "!!python/object:os.system {}", ["not valid YAML"]),
    "a name that is not the file's": (
        "models/iris.yaml",
        "name: rose",
        ["name", "'rose'", "the file's name, 'iris'"],
    ),
}


@pytest.mark.parametrize(("file", "text", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_with_file_key_value_and_what_is_allowed(
    file: str, text: str, words: list[str], write: Write
) -> None:
    folder = write(file, text)
    message = _refused(folder)
    for word in [str(folder / file), *words]:
        assert word in message


def test_all_mistakes_of_a_file_are_told_at_once(write: Write) -> None:
    message = _refused(write("environments/staging.yaml", "workers: 0\nthreads: x\ncolour: red"))
    assert all(key in message for key in ("workers", "threads", "colour"))


def test_a_file_name_that_cannot_be_a_name_is_refused(write: Write) -> None:
    message = _refused(write("models/Iris_2.yaml", "promotion: auto"))
    assert "models/Iris_2.yaml: name:" in message
    assert "'Iris_2'" in message


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "platform.yaml").unlink()
    assert _refused(folder) == f"{folder / 'platform.yaml'}: no such file"


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "models" / "broken.yaml").mkdir()
    assert str(folder / "models" / "broken.yaml") + ": cannot be read" in _refused(folder)


def test_a_file_that_is_not_utf8_is_named(folder: Path) -> None:
    (folder / "models" / "iris.yaml").write_bytes(b"description: \xff")
    assert str(folder / "models" / "iris.yaml") + ": cannot be read" in _refused(folder)


@pytest.mark.parametrize("name", ["staging", "production"])
def test_both_environments_must_be_there(name: str, folder: Path) -> None:
    (folder / "environments" / f"{name}.yaml").unlink()
    assert f"environments/{name}.yaml is missing" in _refused(folder)


def test_a_default_model_that_nobody_configured_is_refused(write: Write) -> None:
    message = _refused(write("platform.yaml", "default_model: rose"))
    assert "platform.yaml: default_model: 'rose' is none of ['iris', 'spam-detector']" in message


def test_a_default_environment_that_nobody_configured_is_refused(write: Write) -> None:
    message = _refused(write("platform.yaml", "default_environment: testing"))
    assert "default_environment: 'testing' is none of ['production', 'staging']" in message


def test_a_model_that_may_take_longer_than_the_gateway_waits_is_refused(write: Write) -> None:
    message = _refused(write("models/iris.yaml", "serving: {deadline_seconds: 60}"))
    assert "models/iris.yaml: serving.deadline_seconds 60 must be below" in message
    assert "gateway.limits.response_timeout_seconds 60 of platform.yaml" in message


def test_one_registered_model_cannot_be_served_under_two_names(write: Write) -> None:
    message = _refused(write("models/rose.yaml", "registered_model: iris"))
    assert "models/rose.yaml: registered_model: 'iris' is already served by" in message
    assert "models/iris.yaml" in message


def test_yaml_anchors_may_be_merged(write: Write) -> None:
    text = "inputs:\n  a: &range {minimum: 0, maximum: 1}\n  b: {<<: *range, maximum: 2}\n"
    inputs = load(write("models/iris.yaml", text), {}).models["iris"].inputs
    assert (inputs["b"].minimum, inputs["b"].maximum) == (0, 2)


def test_variables_go_over_the_file(write: Write) -> None:
    folder = write("platform.yaml", "default_model: iris\ngateway: {port: 1111}")
    values = {
        "SLIPWAY_GATEWAY_PORT": "2222",
        "SLIPWAY_DAGSTER_PORT": "3333",
        "SLIPWAY_MLFLOW_PORT": "4444",
        "SLIPWAY_MLFLOW_TRACKING_URI": "https://mlflow.example",
        "SLIPWAY_DEFAULT_ENVIRONMENT": "production",
        "SLIPWAY_DEFAULT_MODEL": "spam-detector",
        "SLIPWAY_LEDGER_URL": "postgresql+psycopg://me:secret@db/slipway",
        "SLIPWAY_ALERT_WEBHOOK_URL": "https://hooks.example/alerts",
        "SLIPWAY_SLACK_WEBHOOK_URL": "https://hooks.example/slack",
        "SLIPWAY_PREDICTIONS_URL": "s3://bucket/predictions",
        "SLIPWAY_ARTIFACTS_URL": "s3://bucket/slipway",
        "SLIPWAY_CLUSTER_GATEWAY_URL": "http://gateway.slipway",
        "SLIPWAY_DAGSTER_RUNS": "kubernetes",
        "SLIPWAY_DAGSTER_IMAGE": "registry.example/slipway:1",
        "SLIPWAY_HOST": "0.0.0.0",  # noqa: S104
        "SLIPWAY_GATEWAY_URL": "http://gateway:8080",
        "SLIPWAY_DAGSTER_URL": "http://dagster:3000",
        "SLIPWAY_DAGSTER_STORAGE_URL": "postgresql://me:secret@db/dagster",
        "SLIPWAY_CODE_SERVER_HOST": "code",
        "SLIPWAY_CODE_SERVER_PORT": "4000",
        "SLIPWAY_MLFLOW_URL": "http://mlflow:5000",
        "SLIPWAY_MLFLOW_BACKEND_URL": "postgresql://me:secret@db/mlflow",
        "SLIPWAY_MLFLOW_ARTIFACTS": "s3://bucket/mlflow",
        "SLIPWAY_MODEL_SERVERS_HOST": "models",
        "SLIPWAY_CONTROL_HOST": "control",
        "SLIPWAY_CONTROL_PORT": "8081",
        "SLIPWAY_CONTROL_METRICS_PORT": "9464",
    }
    assert set(values) == set(VARIABLES)
    platform = load(folder, values).platform
    assert (platform.gateway.port, platform.dagster.port, platform.mlflow.port) == (
        2222,
        3333,
        4444,
    )
    assert platform.mlflow.uri == "https://mlflow.example"
    assert platform.default_environment == "production"
    assert platform.default_model == "spam-detector"
    assert platform.artifacts.url == "s3://bucket/slipway"
    assert platform.kubernetes.url == "http://gateway.slipway"
    assert (platform.gateway.url, platform.dagster.url) == (
        *("http://gateway:8080", "http://dagster:3000"),
    )
    assert (platform.dagster.code_server.host, platform.dagster.code_server.port) == ("code", 4000)
    assert (platform.model_servers.host, platform.control.host) == ("models", "control")
    assert ":secret@" not in repr(platform)


def test_the_same_files_serve_a_cluster_by_one_variable(write: Write) -> None:
    folder = write("environments/staging.yaml", "workers: 1")
    assert {e.target for e in load(folder, {}).environments.values()} == {"local"}
    moved = load(folder, {"SLIPWAY_TARGET": "kserve"}).environments
    assert {e.target for e in moved.values()} == {"kserve"}
    assert "SLIPWAY_TARGET: target: " in _refused(folder, SLIPWAY_TARGET="mars")


def test_the_cache_of_every_environment_may_come_from_a_variable_and_stays_secret(
    write: Write,
) -> None:
    folder = write("environments/staging.yaml", "cache_url: redis://:hunter2@file.example")
    environments = load(folder, {}).environments
    assert environments["staging"].cache_url == "redis://:hunter2@file.example"
    assert environments["production"].cache_url is None
    environments = load(folder, {"SLIPWAY_CACHE_URL": "rediss://:hunter2@a.example"}).environments
    assert {e.cache_url for e in environments.values()} == {"rediss://:hunter2@a.example"}
    assert "hunter2" not in repr(environments)
    message = _refused(folder, SLIPWAY_CACHE_URL="http://:hunter2@a.example")
    assert "with SLIPWAY_CACHE_URL: cache_url: " in message
    assert "hunter2" not in message


def test_a_features_file_may_be_left_out_and_variables_go_over_it(write: Write) -> None:
    folder = write("platform.yaml", "default_model: iris")
    assert load(folder, {}).features == Features()
    write("features.yaml", "views: {customer_profile: {every: day, on_unknown: default}}\n")
    features = load(folder, {"SLIPWAY_FEATURES_PORT": "4321"}).features
    assert (features.port, features.views["customer_profile"].every) == (4321, "day")
    message = _refused(folder, SLIPWAY_FEATURES_PORT="0")
    assert "features.yaml with SLIPWAY_FEATURES_PORT: port" in message
    message = _refused(folder, SLIPWAY_FEATURES_PORT="8080")
    assert "gateway.port and features.port are both 8080" in message


def test_where_inferences_are_sent_may_come_from_a_variable_and_stays_secret(
    folder: Path,
) -> None:
    url = "https://collector.example/?token=hunter2"
    environments = load(folder, {"SLIPWAY_CLOUD_EVENTS_URL": url}).environments
    assert {item.prediction_log.cloud_events_url for item in environments.values()} == {url}
    assert "hunter2" not in repr(environments)
    message = _refused(folder, SLIPWAY_CLOUD_EVENTS_URL="ftp://hunter2")
    assert "prediction_log.cloud_events_url" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("retraining: {}", "it has no `training`"),
        ("training: a.b:c\nretraining: {environment: moon}", "'moon' is none of"),
        ("training: a.b:c\nretraining: {checks: [drift, drift]}", "checks names one twice"),
        (
            "training: a.b:c\nretraining: {checks: [quality]}",
            "none of them can fail: quality has no limit",
        ),
        (
            "training: a.b:c\nretraining: {checks: [drift]}\ndrift: {enabled: false}",
            "none of them can fail: drift is not enabled",
        ),
        ("prediction_log: {never: [mail], hashed: [mail]}", "'mail' is in never and in hashed"),
        ("drift: {threshold: 0}", "drift.threshold"),
        ("feature_service: a-b", "feature_service"),
    ],
)
def test_monitoring_that_cannot_be_is_refused(text: str, said: str, write: Write) -> None:
    message = _refused(write("models/iris.yaml", text))
    assert "models/iris.yaml" in message
    assert said in message


def test_an_mlflow_server_of_ones_own_needs_no_port(write: Write) -> None:
    uri = "https://mlflow.example"
    folder = write("platform.yaml", f"mlflow: {{tracking_uri: '{uri}'}}")
    assert load(folder, {}).platform.mlflow.uri == uri
    write("platform.yaml", "default_model: iris")
    assert load(folder, {"SLIPWAY_MLFLOW_TRACKING_URI": uri}).platform.mlflow.uri == uri


BAD_VALUES = {
    "SLIPWAY_GATEWAY_PORT": "http",
    "SLIPWAY_DAGSTER_PORT": "0",
    "SLIPWAY_MLFLOW_PORT": "",
    "SLIPWAY_MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
    "SLIPWAY_DEFAULT_ENVIRONMENT": "Production",
    "SLIPWAY_DEFAULT_MODEL": "rose",
}


@pytest.mark.parametrize(("variable", "value"), BAD_VALUES.items())
def test_a_bad_variable_is_named_with_its_value(variable: str, value: str, folder: Path) -> None:
    message = _refused(folder, **{variable: value})
    assert variable in message
    assert repr(value) in message


@pytest.mark.parametrize("text", ["gateway:", "gateway: 8080", "gateway: [8080]"])
def test_a_variable_over_a_setting_that_is_wrong_is_still_one_sentence(
    text: str, write: Write
) -> None:
    folder = write("platform.yaml", f"default_model: iris\n{text}")
    message = _refused(folder, SLIPWAY_GATEWAY_PORT="2222")
    assert f"{folder / 'platform.yaml'} with SLIPWAY_GATEWAY_PORT: gateway" in message


def test_slipway_config_says_which_folder(folder: Path) -> None:
    assert set(load(None, {"SLIPWAY_CONFIG": str(folder)}).models) == {"iris", "spam-detector"}


def test_an_empty_slipway_config_is_none() -> None:
    assert load(None, {"SLIPWAY_CONFIG": ""}) == load(FOLDER, {})


@settings(deadline=None)
@given(text=st.text())
def test_whatever_a_file_holds_it_is_a_mapping_or_an_explained_error(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = read_yaml(path)
    except ConfigurationError as error:
        found = {"refused": str(error).startswith(f"{path}: ")}
    assert isinstance(found, dict)
    assert found != {"refused": False}


def test_importing_the_settings_takes_pydantic_and_yaml_only() -> None:
    code = (
        "import sys, serving_config.load; "
        "print({'numpy', 'dagster', 'mlflow', 'bentoml', 'msgspec'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(FOLDER.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "set()"
