"""`slipway ledger` and `slipway explain-request` as a user calls them."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from deploy.events import Change, Event, State
from deploy.home import Home
from deploy.ledger import Ledger
from orchestration.cli.ledger import Moment
from orchestration.cli.main import cli
from tests.deploy.releases import change, live
from tests.deploy.test_receipts import gateway_line, server_of

Call = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "240")
    (tmp_path / "logs").mkdir()
    return Home(tmp_path)


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    """Versions 1 and 2 in production, after 1 in staging."""
    with Ledger(home.ledger_url) as opened:
        opened.record(change(State("staging", "iris"), live(1)))
        opened.record(change(State("production", "iris"), live(1)))
        base = opened.state("production", "iris")
        opened.record(change(base, live(1, 90), live(2, 10), subject=live(2, 10)))
        yield opened


@pytest.fixture
def call() -> Call:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments)

    return run


def failed(result: Result, *words: str) -> None:
    """With one line, which `main` prints."""
    assert result.exit_code != 0
    text = result.output if isinstance(result.exception, SystemExit) else str(result.exception)
    for word in words:
        assert word in text
    if not isinstance(result.exception, SystemExit):
        assert "\n" not in text
        assert type(result.exception).__module__.split(".")[0] in {"deploy", "orchestration"}


def at(event: Event, seconds: float = 0.0) -> str:
    return (datetime.fromisoformat(event.at) + timedelta(seconds=seconds)).isoformat()


def test_the_changes_come_newest_first_with_who_and_what_and_why(
    ledger: Ledger, call: Call
) -> None:
    base = ledger.state("production", "iris")
    reason = "error rate 12 %, [red]limit[/] 1 %\nin step 2"
    back = Change(
        base=base,
        action="rollback",
        subject=live(1),
        live=(live(1),),
        actor="controller",
        evidence={"reason": reason},
    )
    ledger.record(back)
    result = call("ledger", "iris")
    assert result.exit_code == 0
    _, *rows = result.output.splitlines()
    assert [("production" in row, "staging" in row) for row in rows] == [
        (True, False),
        (True, False),
        (True, False),
        (False, True),
    ]
    assert "rollback" in rows[0]
    assert "controller" in rows[0]
    assert "error rate 12 %, [red]limit[/] 1 % in step 2" in rows[0]
    assert "1 90 %, 2 10 %" in rows[1]
    assert "run-1" in rows[1]


def test_environment_and_limit_narrow_it_down(ledger: Ledger, call: Call) -> None:
    found = json.loads(call("ledger", "iris", "--environment", "staging", "--json").output)
    assert [event["environment"] for event in found] == ["staging"]
    found = json.loads(call("ledger", "iris", "--limit", "2", "--json").output)
    assert [event["id"] for event in found] == [3, 2]
    assert "2 older" in call("ledger", "iris", "--limit", "1").output
    assert "no event" in call("ledger", "iris", "--environment", "moon").output


def test_what_production_served_at_a_time_and_who_put_it_there(ledger: Ledger, call: Call) -> None:
    first, second = ledger.events(environment="production")
    before = call("ledger", "iris", "--at", at(second, -0.001))
    if second.at > first.at:
        assert "1 100 %" in before.output
    after = call("ledger", "iris", "--at", at(second))
    assert after.exit_code == 0
    for words in (
        "1 90 %, 2 10 %",
        "ann",
        "event          3, generation 2",
        live(2).bento,
        live(2).onnx_sha256,
        live(2).certificate_sha256,
        "http://127.0.0.1:3000/runs/run-1",
        "by ann (deploy, event 2)",
    ):
        assert words in after.output
    found = json.loads(call("ledger", "iris", "--at", at(second), "--json").output)
    assert found["event"]["id"] == 3
    assert [item["brought_in"]["id"] for item in found["versions"]] == [2, 3]
    assert found["versions"][1]["live"]["bento"] == live(2).bento


def test_staging_at_a_time_has_to_be_named(ledger: Ledger, call: Call) -> None:
    found = call("ledger", "iris", "--environment", "staging", "--at", "0s ago", "--json")
    assert json.loads(found.output)["event"]["environment"] == "staging"


def test_a_time_before_the_first_event_is_one_line(ledger: Ledger, call: Call) -> None:
    failed(
        call("ledger", "iris", "--at", "2001-01-01"),
        "no event of iris in production before 2001-01-01T00:00:00",
        "the first is of 20",
    )


@pytest.mark.parametrize("text", ["noon", "", "2h30", "-2h", "99999999d", "2026-13-01", "1e3h"])
def test_what_is_no_time_is_refused_with_an_example(text: str, ledger: Ledger, call: Call) -> None:
    failed(call("ledger", "iris", "--at", text), "is no time: 2026-11-20T14:30")


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)), st.integers(-840, 840))
def test_a_time_with_a_zone_is_that_moment(moment: datetime, offset: int) -> None:
    text = moment.replace(tzinfo=timezone(timedelta(minutes=offset))).isoformat()
    expected = moment.replace(tzinfo=UTC) - timedelta(minutes=offset)
    assert Moment().convert(text, None, None) == expected


def test_a_time_without_a_zone_is_local_and_one_may_say_how_long_ago() -> None:
    said = Moment().convert("2026-11-20T14:30", None, None)
    assert said == datetime(2026, 11, 20, 14, 30).astimezone()
    assert Moment().convert("2026-11-20", None, None) == datetime(2026, 11, 20).astimezone()
    for text, seconds in {"90s": 90, "5min": 300, "1.5h ago": 5400, "2 d": 172800}.items():
        ago = datetime.now(UTC) - Moment().convert(text, None, None)
        assert ago.total_seconds() == pytest.approx(seconds, abs=5)


def test_an_unknown_model_is_one_line_and_one_without_a_release_is_none(
    ledger: Ledger, call: Call
) -> None:
    failed(call("ledger", "rose"), "no model 'rose'", "iris, spam-detector")
    assert call("ledger", "spam-detector").output == "no event\n"
    ledger.record(change(State("production", "gone"), live(1, model="gone")))
    assert "1 100 %" in call("ledger", "gone").output


def test_a_whole_ledger_passes_the_check_with_its_number_of_events(
    ledger: Ledger, call: Call
) -> None:
    result = call("ledger", "--check")
    assert (result.exit_code, result.output) == (0, "3 events, each as it was written\n")
    assert json.loads(call("ledger", "--check", "--json").output) == {"events": 3}


def test_a_changed_row_fails_the_check_and_is_named(ledger: Ledger, call: Call) -> None:
    with ledger._database.transaction(writing=True) as connection:
        connection.exec_driver_sql("UPDATE deployment_events SET actor = 'bob' WHERE id = 2")
    failed(call("ledger", "--check"), "event 2 is not what was written")


@pytest.mark.parametrize("arguments", [(), ("iris", "--check")])
def test_a_model_or_the_check_has_to_be_asked_for(
    arguments: tuple[str, ...], home: Home, call: Call
) -> None:
    failed(call("ledger", *arguments), "name a MODEL, or --check")


@pytest.mark.parametrize("command", [("ledger", "iris"), ("explain-request", "r-1")])
def test_where_nothing_was_released_the_question_makes_no_ledger(
    command: tuple[str, ...], home: Home, call: Call
) -> None:
    failed(call(*command), "nothing was released yet")
    assert not (home.root / "ledger.db").exists()


def test_a_ledger_that_cannot_be_read_is_one_line(home: Home, call: Call) -> None:
    (home.root / "ledger.db").write_text("no database, but longer than its header has to be" * 9)
    failed(call("ledger", "iris"), "not a database")


def test_a_request_is_explained_from_its_id(ledger: Ledger, home: Home, call: Call) -> None:
    event = ledger.events()[-1]
    moment = datetime.fromisoformat(event.at)
    line = gateway_line("r-1", moment, server_of(2))
    (home.logs / "gateway-access.log").write_text(line)
    result = call("explain-request", "r-1")
    assert result.exit_code == 0
    for words in (
        "iris 2 in production, with 10 % of the traffic then",
        live(2).onnx_sha256,
        live(2).certificate_sha256,
        live(2).bento,
        "event 3 (deploy) by ann",
        "http://127.0.0.1:3000/runs/run-1",
        "http://127.0.0.1:5000/#/models/iris/versions/2",
    ):
        assert words in result.output
    (found,) = json.loads(call("explain-request", "r-1", "--json").output)
    assert found["deployment"]["version"] == "2"
    assert msgspec.convert(found["time"], datetime) == moment


def test_an_unknown_request_is_one_line(ledger: Ledger, call: Call) -> None:
    failed(call("explain-request", "[b]none[/]"), "no log line has request '[b]none[/]'")
