from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from deploy.findings import Finding
from orchestration.features.windows import rfc3339
from orchestration.monitoring.retraining import Train, Wait, decide
from serving_config.monitoring import Retraining

NOW = datetime(2025, 11, 20, 12, tzinfo=UTC)
SETTINGS = Retraining(failures=2, cool_down_hours=24, min_labelled_rows=100)
HOUR = timedelta(hours=1)
Kinds = st.sampled_from(["drift", "quality", "features", "schedule"])
Statuses = st.sampled_from(["passed", "failed", "not_enough_data"])
Ages = st.floats(0, 100).map(lambda hours: hours * HOUR)
FINDINGS = st.lists(
    st.builds(
        lambda kind, status, environment, times, age, valid: Finding(
            kind=kind,
            environment=environment,
            subject="iris",
            status=status,
            at=rfc3339(NOW - age),
            failures_in_row=times,
            valid_seconds=valid,
        ),
        Kinds,
        Statuses,
        st.sampled_from(["production", "staging"]),
        st.integers(0, 5),
        Ages,
        st.none() | st.floats(1, 1e6),
    ),
    max_size=4,
)


def failed(times: int = 2, **more: object) -> Finding:
    fields = {"kind": "drift", "environment": "production", "subject": "iris", "status": "failed"}
    fields |= {"at": rfc3339(NOW - HOUR), "summary": "3 of 4 columns drifted"}
    return Finding(**(fields | {"failures_in_row": times} | more))  # type: ignore[arg-type]


def decided(
    *findings: Finding,
    trained: datetime | None = None,
    rows: int = 100,
    settings: Retraining = SETTINGS,
) -> Train | Wait:
    return decide(settings, findings, lambda: trained, lambda: rows, NOW)


@given(
    FINDINGS,
    st.none() | Ages,
    st.integers(0, 200),
    st.integers(1, 5),
    st.sampled_from([("drift",), ("quality",), ("drift", "quality")]),
)
def test_it_only_trains_when_everything_that_is_asked_for_holds(
    findings: list[Finding],
    age: timedelta | None,
    rows: int,
    failures: int,
    checks: tuple[str, ...],
) -> None:
    settings = SETTINGS.model_copy(update={"failures": failures, "checks": checks})
    trained = None if age is None else NOW - age
    decision = decided(*findings, trained=trained, rows=rows, settings=settings)
    if isinstance(decision, Wait):
        assert decision.reason
        return
    found = decision.finding
    assert found in findings
    assert found.kind in checks
    assert (found.environment, found.status) == ("production", "failed")
    assert found.failures_in_row >= failures
    assert rows >= 100
    assert trained is None or NOW - trained >= 24 * HOUR
    assert trained is None or datetime.fromisoformat(found.at) > trained


@given(FINDINGS, Ages)
def test_within_the_cool_down_nothing_trains(findings: list[Finding], age: timedelta) -> None:
    assume(age < 24 * HOUR)
    assert isinstance(decided(*findings, failed(9), trained=NOW - age), Wait)


def test_a_check_that_failed_often_enough_trains_and_says_why() -> None:
    decision = decided(failed(3))
    assert isinstance(decision, Train)
    assert decision.reason == (
        "drift failed 3 times in a row in production: 3 of 4 columns drifted"
    )


@pytest.mark.parametrize(
    ("finding", "trained", "rows", "said"),
    [
        (failed(1), None, 100, "neither has failed 2 times in a row: drift, quality"),
        (failed(status="not_enough_data"), None, 100, "neither has failed"),
        (failed(environment="staging"), None, 100, "neither has failed"),
        (failed(valid_seconds=60.0), None, 100, "neither has failed"),
        (failed(), NOW - 2 * HOUR, 100, "last trained at 2025-11-20 10:00 UTC; cool-down until"),
        (failed(at=rfc3339(NOW - 60 * HOUR)), NOW - 50 * HOUR, 100, "before the last training"),
        (failed(), None, 99, "99 labelled answers since the last training, 100 are needed"),
    ],
)
def test_what_it_waits_for_is_said(
    finding: Finding, trained: datetime | None, rows: int, said: str
) -> None:
    decision = decided(finding, trained=trained, rows=rows)
    assert isinstance(decision, Wait)
    assert said in decision.reason


def test_nobody_is_asked_what_does_not_matter() -> None:
    def never() -> int:
        raise AssertionError("asked for nothing")

    assert isinstance(decide(SETTINGS, [], never, never, NOW), Wait)  # type: ignore[arg-type]
    assert isinstance(decide(SETTINGS, [failed()], lambda: NOW, never, NOW), Wait)
