import gzip
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.model_server.access_log import Line
from deploy.events import Event, Live, State
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.log_search import GatewayLine, find_lines
from deploy.logs import rotate
from deploy.predictions.compaction import compact
from deploy.receipts import Receipt, UnknownRequestError, receipt
from deploy.versions import VersionFolder
from serving_config.load import load
from tests.deploy.gateway.limited import Running, limited_gateway
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY, until
from tests.deploy.predictions.segments import block, header, micros, segment
from tests.deploy.releases import certificate, change, contract, live, release

CONFIGURATION = load(Path(__file__).parents[2] / "serving_config")
SECOND = timedelta(seconds=1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Its path is too long for sockets, which nothing here opens."""
    home = Home(tmp_path)
    for folder in (home.logs, home.versions, home.bentoml):
        folder.mkdir()
    return home


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    with Ledger("sqlite://") as opened:
        yield opened


def record(ledger: Ledger, *lives: Live, environment: str = "production") -> Event:
    return ledger.record(change(ledger.state(environment, "iris"), *lives))


def after(event: Event) -> datetime:
    return datetime.fromisoformat(event.at) + SECOND


def server_of(version: int, environment: str = "production") -> str:
    return cluster_name(environment, "iris", live(version))


def gateway_line(request_id: str, moment: datetime, server: str | None, **fields: Any) -> str:
    line = {
        "time": moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        "request_id": request_id,
        "traceparent": None,
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "flags": "-",
        "details": "via_upstream",
        "duration_ms": 3,
        "environment": "production",
        "server": server,
        "user_agent": "test",
    }
    return json.dumps(line | fields) + "\n"


def server_line(request_id: str, moment: datetime, **fields: Any) -> str:
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    line = Line(text, request_id, "POST", "/predict", 200, 1.5, "iris", **fields)
    return msgspec.json.encode(line).decode() + "\n"


def log(home: Home, name: str, *lines: str) -> None:
    with (home.logs / name).open("a") as file:
        file.writelines(lines)


def only(home: Home, ledger: Ledger, request_id: str) -> Receipt:
    (found,) = receipt(home, ledger, request_id, CONFIGURATION)
    return found


def keep_bento(home: Home, version: int) -> None:
    """The documents of the version, as its Bento has them."""
    of = release(version)
    name, _, build = of.tag.partition(":")
    folder = home.bentoml / "bentos" / name / build / "src" / "model"
    folder.mkdir(parents=True)
    with_run = msgspec.structs.replace(of.bundle.contract, run_id="a1b2c3")
    (folder / "contract.json").write_bytes(with_run.encode())
    (folder / "certificate.json").write_bytes(of.certificate.encode())


def test_a_receipt_leads_from_the_request_to_everything_behind_its_answer(
    home: Home, ledger: Ledger
) -> None:
    keep_bento(home, 2)
    record(ledger, live(1))
    first = record(ledger, live(1, 90), live(2, 10))
    in_force = record(ledger, live(1, 75), live(2, 25))
    moment = after(in_force)
    server = server_of(2)
    log(home, "gateway-access.log", gateway_line("r-1", moment, server))
    said = server_line("r-1", moment, version="2", rows=4, caller="shop", trace_id="ab" * 16)
    log(home, f"{server}.log", said)
    found = only(home, ledger, "r-1")
    assert (found.answered_by, found.status, found.server) == ("server", 200, server)
    assert (found.caller, found.rows, found.trace_id) == ("shop", 4, "ab" * 16)
    assert (found.duration_ms, found.notes) == (3, ())
    deployment = found.deployment
    assert deployment
    assert (deployment.environment, deployment.model) == ("production", "iris")
    assert (deployment.version, deployment.weight) == ("2", 25)
    assert deployment.onnx_sha256 == live(2).onnx_sha256
    assert deployment.bento == live(2).bento
    assert deployment.certificate.sha256 == live(2).certificate_sha256
    assert (deployment.certificate.parity, deployment.certificate.http) == (True, True)
    assert (deployment.certificate.rows, deployment.certificate.label_flips) == (30, 0)
    assert deployment.mlflow_run == "a1b2c3"
    assert (deployment.in_force.id, deployment.brought_in.id) == (in_force.id, first.id)
    assert (deployment.brought_in.actor, deployment.brought_in.dagster_run) == ("ann", "run-1")
    assert deployment.links == {
        "mlflow_version": "http://127.0.0.1:5000/#/models/iris/versions/2",
        "mlflow_run": "http://127.0.0.1:5000/#/runs/a1b2c3",
        "dagster_run": "http://127.0.0.1:3000/runs/run-1",
    }


def test_the_weights_are_those_of_the_time_whatever_was_changed_since(
    home: Home, ledger: Ledger
) -> None:
    times = []
    for weight in (10, 50, 90):
        event = record(ledger, live(1, 100 - weight), live(2, weight))
        times.append(datetime.fromisoformat(event.at))
        until(lambda: datetime.now(UTC) > times[-1] + timedelta(milliseconds=2))
    record(ledger, live(1))
    for number, moment in enumerate(times):
        log(home, "gateway-access.log", gateway_line(f"r-{number}", moment, server_of(2)))
    found = [only(home, ledger, f"r-{number}").deployment for number in range(3)]
    assert [item and item.weight for item in found] == [10, 50, 90]


def test_a_server_that_is_leaving_and_one_that_just_came_are_found(
    home: Home, ledger: Ledger
) -> None:
    """Between the ledger's change and the gateway's lies a moment."""
    old = record(ledger, live(1))
    new = record(ledger, live(2))
    early = datetime.fromisoformat(new.at) - SECOND
    log(home, "gateway-access.log", gateway_line("late", after(new), server_of(1)))
    log(home, "gateway-access.log", gateway_line("early", early, server_of(2)))
    late = only(home, ledger, "late").deployment
    assert late
    assert (late.version, late.in_force.id) == ("1", old.id)
    soon = only(home, ledger, "early").deployment
    assert soon
    assert (soon.version, soon.in_force.id) == ("2", new.id)


def test_documents_that_were_changed_or_removed_are_not_passed_off_as_the_deployments(
    home: Home, ledger: Ledger
) -> None:
    event = record(ledger, live(2))
    log(home, "gateway-access.log", gateway_line("r-1", after(event), server_of(2)))
    folder = VersionFolder.of(home, "iris", 2)
    folder.path.mkdir(parents=True)
    other = msgspec.structs.replace(contract(version=2), onnx_sha256="f" * 64, run_id="other")
    (folder.path / "contract.json").write_bytes(other.encode())
    folder.write_certificate(certificate(contract(version=2), flips=1))
    found = only(home, ledger, "r-1")
    assert found.deployment
    assert found.deployment.certificate.sha256 == live(2).certificate_sha256
    assert found.deployment.certificate.parity is None
    assert found.deployment.mlflow_run is None
    text = " ".join(found.notes)
    assert "the certificate is no longer there" in text
    assert "the contract is no longer there" in text


@pytest.mark.parametrize(
    ("status", "details", "server"),
    [(404, "direct_response", None), (429, "local_rate_limited", server_of(1))],
)
def test_what_the_gateway_answered_itself_has_a_receipt_without_a_version(
    status: int, details: str, server: str | None, home: Home, ledger: Ledger
) -> None:
    event = record(ledger, live(1))
    line = gateway_line("r-1", after(event), server, status=status, details=details)
    log(home, "gateway-access.log", line)
    found = only(home, ledger, "r-1")
    assert (found.answered_by, found.status, found.details) == ("gateway", status, details)
    assert found.deployment is None
    assert found.notes == ("the gateway answered by itself, no version did",)


def test_an_id_that_was_used_again_has_a_receipt_for_each_the_newest_last(
    home: Home, ledger: Ledger
) -> None:
    moment = after(record(ledger, live(1)))
    server = server_of(1)
    for n in (2, 0, 1):
        log(home, "gateway-access.log", gateway_line("mine", moment + n * SECOND, server))
        said = server_line("mine", moment + n * SECOND, caller=f"key-{n}")
        log(home, f"{server}.log", said)
    found = receipt(home, ledger, "mine")
    assert [item.caller for item in found] == ["key-0", "key-1", "key-2"]
    assert found[1].time - found[0].time == found[2].time - found[1].time == SECOND


def test_without_a_gateways_line_the_model_servers_own_is_enough(
    home: Home, ledger: Ledger
) -> None:
    copied = msgspec.structs.replace(live(2, 0), mirror=20)
    event = record(ledger, live(1), copied)
    for version in (1, 2):
        log(home, f"{server_of(version)}.log", server_line("r-1", after(event)))
    by_version = {
        item.deployment.version: item for item in receipt(home, ledger, "r-1") if item.deployment
    }
    assert by_version["1"].notes[0] == "only the model server's log has it"
    assert not any("copies" in note for note in by_version["1"].notes)
    assert any("copies" in note for note in by_version["2"].notes)


def test_the_gateways_line_says_which_of_two_servers_that_saw_a_request_answered_it(
    home: Home, ledger: Ledger
) -> None:
    event = record(ledger, live(1), msgspec.structs.replace(live(2, 0), mirror=20))
    log(home, "gateway-access.log", gateway_line("r-1", after(event), server_of(1)))
    for version in (1, 2):
        log(home, f"{server_of(version)}.log", server_line("r-1", after(event)))
    found = only(home, ledger, "r-1")
    assert found.deployment
    assert found.deployment.version == "1"


def test_a_server_that_the_ledger_never_had_is_said(home: Home, ledger: Ledger) -> None:
    log(home, "gateway-access.log", gateway_line("r-1", datetime.now(UTC), "control"))
    found = only(home, ledger, "r-1")
    assert found.deployment is None
    assert "the ledger never had a version behind control" in found.notes


@pytest.mark.parametrize("request_id", ["none", ".*", "", "x" * 129, "a\nb", "\0", "ü", "../../x"])
def test_an_id_that_no_line_has_is_one_sentence(
    request_id: str, home: Home, ledger: Ledger
) -> None:
    log(home, "gateway-access.log", gateway_line("r-1", datetime.now(UTC), server_of(1)))
    with pytest.raises(UnknownRequestError, match="request") as caught:
        receipt(home, ledger, request_id)
    assert "\n" not in str(caught.value)


def test_without_any_log_the_request_is_unknown(home: Home, ledger: Ledger) -> None:
    shutil.rmtree(home.logs)
    with pytest.raises(UnknownRequestError, match="no log line has request 'r-1'"):
        receipt(home, ledger, "r-1")


def test_damaged_lines_and_other_fields_do_not_hide_a_request_nor_make_one_up(
    home: Home, ledger: Ledger
) -> None:
    moment = after(record(ledger, live(1)))
    whole = gateway_line("r-1", moment, server_of(1))
    log(
        home,
        "gateway-access.log",
        "\0" * 1000 + "\n",
        gateway_line("other", moment, server_of(1), path="/r-1", user_agent='"request_id":"r-1"'),
        gateway_line("r-10", moment, server_of(1)),
        whole.replace(moment.strftime("%Y"), "year", 1),
        whole.replace('"status": 200', '"status": "fine"'),
        '{"request_id":"r-1"}\n',
        "r-1\n",
        "null r-1\n",
        whole[:80] + "\n",
        "\0" * 100 + whole,
        whole[:-20],
    )
    with (home.logs / "gateway-access.log").open("ab") as file:
        file.write(b'\n\xff\xfe"r-1"\n' + whole.encode()[:60])
    assert only(home, ledger, "r-1").status == 200


def test_rotated_and_compressed_and_cut_off_files_are_searched(home: Home, ledger: Ledger) -> None:
    moment = after(record(ledger, live(1)))
    line = {name: gateway_line(name, moment, server_of(1)) for name in "abcd"}
    log(home, "gateway-access.log", line["a"])
    rotate(home.logs, max_bytes=1)
    log(home, "gateway-access.log", line["a"], line["b"])  # as in the middle of a rotation
    (home.logs / "gateway-access.log.2.gz").write_bytes(gzip.compress(line["c"].encode()))
    filler = "".join(gateway_line(f"{n:032x}", moment, None) for n in range(20_000))
    cut = gzip.compress((line["d"] + filler).encode())
    (home.logs / "gateway-access.log.3.gz").write_bytes(cut[: len(cut) // 2])
    (home.logs / "gateway-access.log.4.gz").write_text("no archive")
    for name in "abcd":
        assert only(home, ledger, name).request_id == name


SANE_IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)


@given(SANE_IDS, st.booleans())
def test_any_id_that_a_server_takes_is_found_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, request_id: str, escaped: bool
) -> None:
    file = tmp_path_factory.mktemp("logs") / "gateway-access.log"
    lines = [gateway_line(i, datetime.now(UTC), None) for i in (request_id, request_id + "x")]
    if escaped:  # another way to write the same JSON
        lines = [line.replace("\\\\", "\\u005c").replace('\\"', "\\u0022") for line in lines]
    file.write_text("".join(lines))
    assert [line.request_id for line in find_lines([file], request_id, GatewayLine)] == [request_id]


def test_a_log_at_its_largest_is_searched_in_well_below_a_second(
    home: Home, ledger: Ledger
) -> None:
    moment = after(record(ledger, live(1)))
    lines = [gateway_line(f"{n:032x}", moment, server_of(1)) for n in range(30_000)]
    for name in ("gateway-access.log", "gateway-access.log.1"):
        log(home, name, *lines)
    assert (home.logs / "gateway-access.log").stat().st_size > 10e6
    began = time.process_time()
    assert only(home, ledger, f"{29_999:032x}").status == 200
    assert time.process_time() - began < 0.5


def test_a_line_longer_than_what_is_read_at_once_is_found(home: Home, ledger: Ledger) -> None:
    moment = after(record(ledger, live(1)))
    long = gateway_line("long", moment, server_of(1), user_agent="x" * (9 << 20))
    log(home, "gateway-access.log", long, gateway_line("next", moment, server_of(1)))
    assert only(home, ledger, "long").status == only(home, ledger, "next").status == 200


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with (
        tempfile.TemporaryDirectory(prefix="slipway-") as folder,
        limited_gateway(Home(Path(folder)).create()) as running,
    ):
        yield running


@ADMIN_IS_ASKED_TOO_EARLY
def test_what_a_real_gateway_logs_has_a_receipt(gateway: Running, ledger: Ledger) -> None:
    ledger.record(change(State("staging", "rose"), live(2, model="rose")))
    odd = 'a"b\\c/d<e>{f}'
    with gateway.client() as client:
        client.post("/models/rose/predict", headers={"x-request-id": odd})
        client.get("/models/none", headers={"x-request-id": "lost"})
        statuses = [
            client.get("/predict", headers={"x-request-id": f"n-{n}"}).status_code
            for n in range(40)
        ]
    refused = statuses.index(429)
    gateway.logged("n-39")
    answered = only(gateway.home, ledger, odd)
    assert answered.deployment
    assert (answered.deployment.model, answered.deployment.version) == ("rose", "2")
    for request_id, status in (("lost", 404), (f"n-{refused}", 429)):
        found = only(gateway.home, ledger, request_id)
        assert (found.answered_by, found.status) == ("gateway", status)
        assert found.deployment is None


def test_the_prediction_log_adds_what_was_asked_and_answered(home: Home, ledger: Ledger) -> None:
    keep_bento(home, 2)
    moment = after(record(ledger, live(2)))
    log(home, "gateway-access.log", gateway_line("r-1", moment, server_of(2)))
    rows = block(["r-1", "r-2"], moment)
    segment(home, "0-1", rows, of=header(label="2"))
    found = only(home, ledger, "r-1")
    (row,) = found.logged
    assert (row.features, row.prediction) == ({"width": 0.0, "colour": "red"}, "setosa")
    assert row.probabilities == {"setosa": 0.75, "virginica": 0.25}
    # Without a configuration nobody knows where the log is.
    assert receipt(home, ledger, "r-1")[0].logged == ()


def test_of_an_id_that_was_used_again_each_receipt_has_its_own_rows(
    home: Home, ledger: Ledger
) -> None:
    keep_bento(home, 2)
    moment = after(record(ledger, live(2)))
    for n in range(3):
        line = gateway_line("mine", moment + n * SECOND, server_of(2))
        log(home, "gateway-access.log", line)
    segment(home, "0-1", block(["mine"] * 3, moment + SECOND / 1000), of=header(label="2"))
    found = receipt(home, ledger, "mine", CONFIGURATION)
    assert [[row.features["width"] for row in item.logged] for item in found] == [[0], [1], [2]]


def test_when_the_access_logs_are_gone_the_prediction_log_leads_to_the_same(
    home: Home, ledger: Ledger
) -> None:
    keep_bento(home, 2)
    moment = after(record(ledger, live(1, 90), live(2, 10)))
    of = header(label="2", onnx_sha256=live(2).onnx_sha256)
    many = block(["r-1"] * 30, moment, row=list(range(30)), time=[micros(moment)] * 30)
    segment(home, "0-1", many, block(["other"], moment), of=of)
    compact(home, CONFIGURATION.platform.predictions, moment)
    found = only(home, ledger, "r-1")
    assert (found.server, found.status, found.duration_ms, found.rows) == (
        server_of(2),
        200,
        1.5,
        30,
    )
    assert found.time == moment
    assert found.deployment is not None
    assert (found.deployment.version, found.deployment.weight) == ("2", 10)
    assert found.deployment.mlflow_run == "a1b2c3"
    assert [row.row for row in found.logged] == list(range(20))
    assert found.notes[0].startswith("the access logs do not have it")


def test_a_version_that_the_ledger_never_had_keeps_its_row(home: Home, ledger: Ledger) -> None:
    segment(home, "0-1", block(["r-1"], source=["mirror"]), of=header(label="9"))
    found = only(home, ledger, "r-1")
    assert (found.deployment, found.server, len(found.logged)) == (None, None, 1)
    assert "a copy" in found.notes[1]
    assert found.notes[2] == "the ledger never had iris 9 live in production"
