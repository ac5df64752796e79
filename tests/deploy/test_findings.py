from pathlib import Path

import pytest

from deploy.findings import (
    KIND,
    Finding,
    FindingsError,
    Status,
    key_of,
    read_finding,
    readable,
    write_finding,
)
from deploy.home import Home
from deploy.shared_state import shared_state


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).create()


def finding(status: Status, subject: str = "iris", version: str = "1") -> Finding:
    return Finding(
        version=version,
        kind="drift",
        environment="production",
        subject=subject,
        status=status,
        at="2026-01-01T00:00:00+00:00",
        values={"share": 0.5},
    )


def test_failures_in_a_row_are_counted_and_end_with_the_first_that_passes(home: Home) -> None:
    statuses: list[Status] = ["failed", "failed", "not_enough_data", "failed", "passed", "failed"]
    counts = [write_finding(home, finding(status)).failures_in_row for status in statuses]
    assert counts == [1, 2, 2, 3, 0, 1]
    kept = read_finding(home, "drift", "production", "iris")
    assert kept is not None
    assert (kept.failures_in_row, kept.values) == (1, {"share": 0.5})


def test_what_was_found_of_a_version_is_not_held_against_the_next_one(home: Home) -> None:
    write_finding(home, finding("failed"))
    write_finding(home, finding("failed"))
    assert write_finding(home, finding("not_enough_data", version="2")).failures_in_row == 0
    assert write_finding(home, finding("failed", version="2")).failures_in_row == 1


def test_what_was_never_looked_at_has_no_finding(home: Home) -> None:
    assert read_finding(home, "drift", "staging", "iris") is None
    assert readable(home) == ([], [])


def test_subjects_and_environments_are_kept_apart(home: Home) -> None:
    for subject in ("iris", "iris-2"):
        write_finding(home, finding("passed", subject))
    assert [item.subject for item in readable(home)[0]] == ["iris-2", "iris"]


def test_a_damaged_finding_is_no_missing_one(home: Home) -> None:
    write_finding(home, finding("failed"))
    damage(home)
    with pytest.raises(FindingsError, match=r"drift/iris@production: .*writes it anew"):
        read_finding(home, "drift", "production", "iris")


def test_the_next_look_writes_a_damaged_finding_anew(home: Home) -> None:
    damage(home)
    write_finding(home, finding("failed"))
    (kept,), damaged = readable(home)
    assert (kept.failures_in_row, damaged) == (1, [])


def damage(home: Home) -> None:
    shared_state(home).write(KIND, key_of("drift", "production", "iris"), b"{")
