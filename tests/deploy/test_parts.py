"""Each part by itself: what it runs, and who gets in."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bentos.model_server.keys import Keys
from bentos.model_server.problems import Problem
from deploy.dagster_files import write_dagster_yaml, write_workspace
from deploy.gateway.clusters import cluster, mirror_cluster
from deploy.home import Home
from deploy.keys import KeyStore, platform_headers
from deploy.parts import (
    CODE_SERVER,
    PARTS,
    PartError,
    close_to_strangers,
    hold,
    prepare_gateway,
    process,
    running,
)
from deploy.platform import MLFLOW, WEBSERVER, LocalPlatform
from deploy.supervision import MODEL_SERVERS
from deploy.supervisor import only_one
from serving_config.gateway import Limits
from serving_config.load import FOLDER, load

ANYWHERE = "0.0.0.0"  # noqa: S104
SECRET = "hunter2"  # noqa: S105


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).create()


def platform(home: Home, **variables: str) -> LocalPlatform:
    return LocalPlatform(home, load(FOLDER, variables), FOLDER)


def test_a_part_listens_where_it_is_told_and_its_arguments_hold_no_password(home: Home) -> None:
    made = platform(
        home,
        SLIPWAY_HOST=ANYWHERE,
        SLIPWAY_MLFLOW_URL="http://mlflow:5000",
        SLIPWAY_MLFLOW_BACKEND_URL=f"postgresql://me:{SECRET}@db/mlflow",
        SLIPWAY_DAGSTER_STORAGE_URL=f"postgresql://me:{SECRET}@db/dagster",
    )
    for part in (MLFLOW, WEBSERVER, CODE_SERVER):
        command = process(made, part).command
        assert command[command.index("--host") + 1] == ANYWHERE
        assert SECRET not in " ".join(command)
    variables = process(made, MLFLOW).environment
    assert SECRET in variables["MLFLOW_BACKEND_STORE_URI"]
    assert "mlflow:*" in variables["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    made.write_files()
    for path in home.root.rglob("*"):
        assert not path.is_file() or SECRET not in path.read_text()
    listener = json.loads((home.gateway / "lds.json").read_text())["resources"][0]
    assert listener["address"]["socket_address"]["address"] == ANYWHERE


def test_dagster_reads_its_database_from_a_variable_and_finds_the_code_server(home: Home) -> None:
    made = platform(home, SLIPWAY_DAGSTER_STORAGE_URL="postgresql://a/b")
    write_dagster_yaml(home, made.configuration)
    write_workspace(home, made.configuration.platform.dagster.code_server)
    settings = yaml.safe_load((home.dagster / "dagster.yaml").read_text())
    variable = settings["storage"]["postgres"]["postgres_url"]["env"]
    assert made.environment()[variable] == "postgresql+psycopg2://a/b"
    workspace = yaml.safe_load((home.dagster / "workspace.yaml").read_text())
    server = workspace["load_from"][0]["grpc_server"]
    assert (server["host"], server["port"]) == ("127.0.0.1", 4266)
    write_dagster_yaml(home, platform(home).configuration)
    assert "storage" not in yaml.safe_load((home.dagster / "dagster.yaml").read_text())


def test_servers_by_name_are_looked_up_again_each_second_and_by_address_never() -> None:
    for make in (cluster, mirror_cluster):
        by_name, by_address = (make("n", 1, Limits(), host) for host in ("models", "10.0.0.7"))
        assert (by_name["type"], by_name["dns_refresh_rate"]) == ("STRICT_DNS", "1s")
        assert by_address["type"] == "STATIC"


def test_off_this_machine_nobody_predicts_before_there_is_a_key_not_even_from_here(
    home: Home,
) -> None:
    assert close_to_strangers(platform(home)) is None
    assert Keys(home.keys).require({}, "127.0.0.1", "predict") == ""
    warning = close_to_strangers(platform(home, SLIPWAY_HOST=ANYWHERE))
    assert "slipway keys add" in str(warning)
    keys = Keys(home.keys)
    for client in ("127.0.0.1", "172.17.0.3"):
        with pytest.raises(Problem) as caught:
            keys.require({}, client, "predict")
        assert caught.value.status == 401
    own = platform_headers(home)["X-API-Key"].encode()
    assert keys.require({b"x-api-key": own}, "172.17.0.3", "predict")
    KeyStore(home).add("ann", ["predict"])
    assert close_to_strangers(platform(home, SLIPWAY_HOST=ANYWHERE)) is None
    assert platform_headers(home)["X-API-Key"].encode() == own


HOLDER = """
import sys
from pathlib import Path
from deploy.home import Home
from deploy.parts import hold
hold(Home(Path(sys.argv[1])), "gateway")
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_part_runs_once_in_a_home_and_its_end_is_noticed(home: Home) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.root)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            assert running(home) == ["gateway"]
            with pytest.raises(PartError, match="gateway runs already in"):
                hold(home, "gateway")
        finally:
            holder.kill()
    assert running(home) == []


def test_no_part_runs_beside_the_whole_platform(home: Home) -> None:
    with only_one(home), pytest.raises(PartError, match=re.escape(str(home.root))):
        hold(home, "gateway")


def test_the_gateway_starts_with_what_was_known_last_where_no_model_server_runs(
    home: Home,
) -> None:
    made = platform(home)
    prepare_gateway(made)
    clusters = home.gateway / "cds.json"
    (only,) = json.loads(clusters.read_text())["resources"]
    assert only["name"] == "control"
    clusters.write_text("known")
    prepare_gateway(made)
    assert clusters.read_text() == "known"


def test_every_part_has_a_process_but_a_transformer_that_nobody_needs(home: Home) -> None:
    made = platform(home)
    models = {
        name: model.model_copy(update={"feature_service": None})
        for name, model in made.configuration.models.items()
    }
    without = made.configuration.model_copy(update={"models": models})
    spared = LocalPlatform(home, without, FOLDER)
    for part in PARTS:
        if part == "feature-transformer":
            with pytest.raises(PartError, match="no model has a feature_service"):
                process(spared, part)
        else:
            assert Path(process(spared, part).command[0]).is_file()
    assert process(spared, MODEL_SERVERS).command[-1] == MODEL_SERVERS
