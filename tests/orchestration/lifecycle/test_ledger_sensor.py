"""The sensor as a plain call: a real ledger, a registry made by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest

from deploy.events import State
from deploy.ledger import Ledger
from deploy.live import most_traffic
from orchestration.defs.lifecycle.ledger_sensor import ledger_sensor
from orchestration.resources.registry import NotInRegistryError, Registry, RegistryError
from orchestration.resources.serving import Serving
from serving_config.load import FOLDER, load
from tests.deploy.releases import change, live
from tests.orchestration.lifecycle.ledgers import append, canary


class Aliases(Registry):
    """A registry that keeps its aliases, unless it is to fail."""

    moved: ClassVar[dict[tuple[str, str], int]] = {}
    error: ClassVar[Exception | None] = None

    def set_alias(self, name: str, alias: str, version: int) -> None:
        if self.error is not None:
            raise self.error
        self.moved[name, alias] = version


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    canary(made)
    yield made
    made.close()


@pytest.fixture
def tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    Aliases.moved, Aliases.error = {}, None
    monkeypatch.delenv("SLIPWAY_LEDGER_URL", raising=False)
    sensor = ledger_sensor(load(variables={}))
    serving = Serving(home=str(tmp_path), config_folder=str(FOLDER))

    def run(cursor: str | None) -> Any:
        with dg.instance_for_test() as instance:
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            return sensor(context, registry=Aliases(tracking_uri="http://nowhere"), serving=serving)

    return run


def test_every_change_is_an_event_of_the_model_s_traffic(ledger: Ledger, tick: Any) -> None:
    result = tick("0")
    assert [event.asset_key.path for event in result.asset_events] == [["iris", "traffic"]] * 4
    last = result.asset_events[-1].metadata
    assert last["action"].value == "canary"
    assert [dict(row.data)["weight"] for row in last["weights"].records] == ["50 %", "50 %"]
    assert last["dagster_run"].value.endswith("/runs/run-1")
    assert result.cursor == "4"
    assert isinstance(tick("4"), dg.SkipReason)


def test_the_alias_is_the_version_with_most_of_the_traffic_also_after_a_rollback(
    ledger: Ledger, tick: Any
) -> None:
    append(ledger, "promote", live(2), live(1, 0))
    cursor = tick("0").cursor
    assert Aliases.moved == {("iris", "production"): 2}
    append(ledger, "rollback", live(1), actor="bob", reason="by hand")
    result = tick(cursor)
    assert Aliases.moved == {("iris", "production"): 1}
    assert result.asset_events[0].metadata["reason"].value == "by hand"


def test_half_and_half_leaves_the_alias_at_the_version_that_was_there() -> None:
    assert most_traffic([live(2, 50), live(1, 50)]) == live(1, 50)
    assert most_traffic([]) is None


def test_a_registry_that_is_down_loses_no_event(ledger: Ledger, tick: Any) -> None:
    Aliases.error = RegistryError("MLflow at http://nowhere: refused")
    with pytest.raises(RegistryError):
        tick("0")
    Aliases.error = None
    assert len(tick("0").asset_events) == 4


def test_a_version_that_was_deleted_from_the_registry_holds_nothing_up(
    ledger: Ledger, tick: Any
) -> None:
    Aliases.error = NotInRegistryError("no version 2")
    assert tick("0").cursor == "4"


def test_a_long_ledger_is_read_in_parts_and_begins_with_its_end(ledger: Ledger, tick: Any) -> None:
    for version in range(2, 60):
        append(ledger, "promote", live(version))
    first = tick(None)
    assert (len(first.asset_events), first.cursor) == (50, "62")
    second = tick("1")
    assert (len(second.asset_events), second.cursor) == (50, "51")


def test_a_model_that_is_no_longer_configured_is_passed_over(ledger: Ledger, tick: Any) -> None:
    ledger.record(change(State("production", "rose"), live(1, model="rose")))
    result = tick("4")
    assert (result.asset_events, result.cursor) == ([], "5")
    assert Aliases.moved == {}


def test_of_another_ledger_that_is_shorter_everything_is_reported(
    ledger: Ledger, tick: Any
) -> None:
    """SLIPWAY_LEDGER_URL was changed: Dagster has kept the cursor of the ledger before."""
    result = tick("900")
    assert len(result.asset_events) == len(ledger.events())
    assert result.cursor == "4"
