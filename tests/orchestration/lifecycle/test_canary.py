import base64
import re
from pathlib import Path
from xml.etree import ElementTree

import dagster as dg
import pytest

from deploy.history import release_result
from deploy.ledger import Ledger
from orchestration.defs.lifecycle.canary import canary_events, canary_metadata, ended
from tests.deploy.releases import live
from tests.orchestration.lifecycle.ledgers import append, canary, verdict


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    canary(made)
    return made


def rows(value: dg.TableMetadataValue) -> list[dict[str, object]]:
    return [dict(record.data) for record in value.records]


def test_every_phase_is_told_with_the_verdict_that_ended_it(ledger: Ledger) -> None:
    append(ledger, "promote", live(2), live(1, 0), **verdict("promote", "no difference found"))
    events = ledger.events("iris", "production")
    metadata = canary_metadata(canary_events(events, "2", events[-1]))
    assert (metadata["decision"], metadata["reason"]) == ("promote", "no difference found")
    steps = rows(metadata["steps"])
    assert [(row["phase"], row["decision"]) for row in steps] == [
        ("replay", "promote"),
        ("canary 10 %", "promote"),
        ("canary 50 %", "promote"),
    ]
    assert steps[1]["requests"] == "200"


def test_the_findings_have_shares_bounds_and_limits_and_say_what_was_breached(
    ledger: Ledger,
) -> None:
    back = verdict("rollback", "10 % of the requests failed", 20)
    append(ledger, "rollback", live(1), **back)
    events = ledger.events("iris", "production")
    metadata = canary_metadata(canary_events(events, "2", events[-1]))
    assert metadata["decision"] == "rollback"
    (breached,) = [row for row in rows(metadata["worst_findings"]) if row["breached"]]
    assert breached["phase"] == "canary 50 %"
    assert breached["candidate"] == "10.00% [5.00%, 20.00%]"
    assert breached["stable"] == "0.06% [0.00%, 1.00%]"
    assert breached["limit"] == "1.00%"


def test_the_plot_is_a_picture_that_a_browser_can_read(ledger: Ledger) -> None:
    append(ledger, "promote", live(2), live(1, 0), **verdict("promote", "no difference found"))
    events = ledger.events("iris", "production")
    plot = canary_metadata(canary_events(events, "2", events[-1]))["plot"]
    found = re.fullmatch(r"!\[.*\]\(data:image/svg\+xml;base64,(.*)\)", plot.md_str)
    assert found is not None
    picture = ElementTree.fromstring(base64.b64decode(found[1]))  # noqa: S314
    assert picture.tag.endswith("svg")


def test_a_person_who_ends_a_canary_is_named(ledger: Ledger) -> None:
    started = ledger.events("iris", "production")[2]
    append(ledger, "split", live(1, 70), live(2, 30), actor="bob")
    events = ledger.events("iris", "production")
    result, last = release_result(events, started)
    assert ended(result, last) == "superseded: bob changed what production serves (split)"
    metadata = canary_metadata(canary_events(events, "2", last))
    assert metadata["decision"] == "split"
    assert rows(metadata["steps"])[-1]["reason"] == "split by bob"


def test_a_rollback_is_told_with_its_reason(ledger: Ledger) -> None:
    started = ledger.events("iris", "production")[2]
    append(ledger, "rollback", live(1), **verdict("rollback", "too slow", 1))
    events = ledger.events("iris", "production")
    assert ended(*release_result(events, started)) == "rolled back: too slow"


def test_a_version_that_came_without_a_canary_has_no_phases(ledger: Ledger) -> None:
    events = ledger.events("iris", "production")
    assert canary_events(events[:1], "1", events[0]) == []
