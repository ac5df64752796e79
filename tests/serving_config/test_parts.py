"""Where the parts listen, and where others reach them."""

from typing import Any

import pytest

from serving_config.load import FOLDER, ConfigurationError, load
from serving_config.schema import Platform


def platform(**variables: str) -> Platform:
    return load(FOLDER, variables).platform


def test_as_shipped_everything_is_on_this_machine_alone() -> None:
    shipped = load(FOLDER, {})
    assert shipped.platform.host == "127.0.0.1"
    urls = [shipped.platform.gateway.url, shipped.platform.dagster.url, shipped.features.url]
    assert [*urls, shipped.platform.mlflow.uri] == [
        f"http://127.0.0.1:{port}" for port in (8080, 3000, 8090, 5000)
    ]
    assert shipped.platform.model_servers.host == "127.0.0.1"


def test_where_a_part_is_reached_follows_its_port_unless_it_is_said() -> None:
    assert platform(SLIPWAY_DAGSTER_PORT="3001").dagster.url == "http://127.0.0.1:3001"
    moved = platform(SLIPWAY_DAGSTER_PORT="3001", SLIPWAY_DAGSTER_URL="http://dagster:3000")
    assert (moved.dagster.port, moved.dagster.url) == (3001, "http://dagster:3000")
    assert platform(SLIPWAY_MLFLOW_URL="http://mlflow:5000").mlflow.uri == "http://mlflow:5000"


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("SLIPWAY_HOST", "10.0.0.1", "host"),
        ("SLIPWAY_DAGSTER_URL", "http://dagster:3000/", "dagster.url"),
        ("SLIPWAY_DAGSTER_URL", "http://me:hunter2@dagster", "dagster.url"),
        ("SLIPWAY_MODEL_SERVERS_HOST", "http://models", "model_servers.host"),
        ("SLIPWAY_CODE_SERVER_PORT", "0", "dagster.code_server.port"),
        ("SLIPWAY_MLFLOW_ARTIFACTS", "artifacts", "mlflow.artifacts"),
        ("SLIPWAY_MLFLOW_BACKEND_URL", "mysql://me:hunter2@db", "mlflow.backend_url"),
        ("SLIPWAY_DAGSTER_STORAGE_URL", "mysql://me:hunter2@db", "dagster.storage_url"),
    ],
)
def test_an_address_that_cannot_be_is_named_and_a_password_is_not(
    variable: str, value: str, key: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        platform(**{variable: value})
    assert f"with {variable}: {key}: " in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_wrong_port_is_said_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        platform(SLIPWAY_GATEWAY_PORT="none")
    assert str(caught.value).count("gateway") == 1


@pytest.mark.parametrize("given", ["postgresql://a/b", "postgresql+psycopg2://a/b"])
def test_dagster_gets_the_driver_that_its_storage_is_written_for(given: str) -> None:
    found: Any = platform(SLIPWAY_DAGSTER_STORAGE_URL=given).dagster.storage
    assert found == "postgresql+psycopg2://a/b"
    assert platform().dagster.storage is None
