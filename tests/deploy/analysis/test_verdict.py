import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.analysis.agreement import Agreement
from deploy.analysis.verdict import (
    PARTS_KEPT,
    Analysis,
    Finding,
    compare,
    judge_shadow,
    phase_alpha,
    watch,
)
from deploy.events import Counters
from serving_config.release import Health, ReleasePolicy, Shadow

POLICY = ReleasePolicy(policy="canary")
SHADOWED = ReleasePolicy(policy="canary", shadow=Shadow())
NOTHING = Counters()


def durations(fast: int, slow: int = 0, above: str = "1.0") -> dict[str, int]:
    """Predictions in less than 10 ms, and in up to `above` seconds."""
    buckets = dict.fromkeys(("0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "+Inf"), 0)
    return buckets | {"0.01": fast, above: slow}


STABLE = Counters(requests=7310, errors=7, durations=durations(7303))


def judged(
    candidate: Counters, stable: Counters = STABLE, seconds: float = 70, baseline: Counters = STABLE
) -> Analysis:
    return compare(POLICY, candidate, stable, baseline, seconds)


def finding(found: Analysis, metric: str, detail: str = "") -> Finding:
    return next(f for f in found.findings if f.metric == metric and f.detail.startswith(detail))


def test_a_candidate_that_fails_is_rolled_back_with_the_numbers() -> None:
    found = judged(Counters(requests=812, errors=33))
    assert found.decision == "rollback"
    assert found.reason == (
        "4.06 % of 812 requests failed, 0.1 % of the stable version's 7,310; "
        "at most 1 % more is allowed"
    )


def test_a_candidate_that_refuses_what_the_stable_version_takes_is_rolled_back() -> None:
    found = judged(Counters(requests=200, refusals=100))
    assert found.reason.startswith("50 % of 200 requests were refused, 0 % of the")


def test_a_slow_answer_takes_longer_than_three_times_the_usual_p99() -> None:
    baseline = Counters(durations=durations(950, 50, "0.025"))
    slow = Counters(requests=200, durations=durations(100, 100, "0.25"))
    found = judged(slow, baseline=baseline)
    # The p99 is 22 ms; three times that lies in the bucket up to 0.1 s.
    assert found.reason == (
        "50 % of 200 predictions were slower than 0.1 s, 0 % of the stable version's "
        "7,303; at most 5 % more is allowed"
    )


def test_a_fast_version_may_take_fifty_milliseconds() -> None:
    baseline = Counters(durations=durations(1000))
    slower = Counters(requests=900, durations=durations(0, 900, "0.05"))
    assert judged(slower, baseline=baseline).decision == "promote"


def test_without_a_baseline_slow_is_what_health_says() -> None:
    found = judged(Counters(requests=9, durations=durations(9)), baseline=NOTHING)
    assert finding(found, "latency").detail == "slower than 0.5 s"


def test_a_limit_within_a_bucket_counts_from_its_end() -> None:
    health = Health(p99_ms=60)
    just_above = Counters(requests=900, durations=durations(0, 900, "0.1"))
    found = watch(health, 0.01, just_above, 10)
    assert (found.decision, finding(found, "latency").detail) == ("hold", "slower than 0.1 s")
    slow = Counters(requests=900, durations=durations(0, 900, "0.25"))
    assert watch(health, 0.01, slow, 10).decision == "rollback"


def test_a_limit_beyond_all_buckets_is_never_passed() -> None:
    slow = Counters(requests=900, durations=durations(0, 900, "+Inf"))
    assert watch(Health(p99_ms=5000), 0.01, slow, 10).decision == "hold"


@pytest.mark.parametrize(
    ("cells", "mine", "other", "said"),
    [
        ("predictions", {"a": 100, "b": 0}, {"a": 500, "b": 500}, "100 % of 100 rows were of cla"),
        (
            "confidences",
            {"0.5": 90, "1.0": 10},
            {"0.5": 100, "1.0": 900},
            "a probability of 0.55 on average over 100 rows, 0.95 over",
        ),
        (
            "values",
            {"-1.0": 90, "0.0": 0, "1.0": 0, "+Inf": 10},
            {"-1.0": 100, "0.0": 0, "1.0": 0, "+Inf": 900},
            "90 % of 100 rows had a value of at most",
        ),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_answers_that_are_spread_otherwise_are_found_in_both_directions(
    cells: str, mine: dict[str, int], other: dict[str, int], said: str, swapped: bool
) -> None:
    one = msgspec.convert({"requests": 100, cells: mine}, Counters)
    two = msgspec.convert({"requests": 1000, cells: other}, Counters)
    found = judged(two, one) if swapped else judged(one, two)
    assert found.decision == "rollback"
    assert "is allowed" in found.reason
    assert swapped or said in found.reason


def test_a_model_that_is_a_little_surer_of_everything_is_no_worse_one() -> None:
    stable = Counters(requests=9000, confidences={"0.95": 0, "0.99": 9000, "0.999": 0})
    surer = Counters(requests=9000, confidences={"0.95": 0, "0.99": 0, "0.999": 9000})
    assert judged(surer, stable).decision == "promote"
    assert judged(stable, surer).decision == "promote"


def test_values_that_cross_one_bound_by_a_hair_are_no_shift_but_two_are() -> None:
    bounds = ["1.0", "1.25", "1.6", "2.0", "+Inf"]

    def at(bound: str) -> Counters:
        return Counters(requests=9000, values={key: 9000 * (key == bound) for key in bounds})

    assert judged(at("1.25"), at("1.0")).decision == "promote"
    assert judged(at("1.0"), at("1.25")).decision == "promote"
    assert "value above 1.25" in judged(at("1.6"), at("1.0")).reason
    assert "value of at most 1" in judged(at("1.0"), at("1.6")).reason


def test_a_class_that_only_one_version_knows_is_compared() -> None:
    found = judged(
        Counters(requests=300, predictions={"a": 150, "new": 150}),
        Counters(requests=300, predictions={"a": 300}),
    )
    assert found.decision == "rollback"
    assert finding(found, "predictions", "class new").breached


def test_one_request_with_a_thousand_equal_rows_says_no_more_than_one_row() -> None:
    stable = Counters(requests=1000, predictions={"a": 500, "b": 500}, rows_squared=1000)
    batch = Counters(requests=1, predictions={"a": 1000, "b": 0}, rows_squared=10**6)
    assert judged(batch, stable).decision == "hold"
    # Among single rows, too: nearly all rows are still of that one request.
    mixed = Counters(requests=101, predictions={"a": 1050, "b": 50}, rows_squared=10**6 + 100)
    assert judged(mixed, stable).decision == "hold"
    single = Counters(requests=1000, predictions={"a": 1000, "b": 0}, rows_squared=1000)
    assert judged(single, stable).decision == "rollback"


def test_rows_count_for_their_requests_where_their_sizes_are_not_known() -> None:
    stable = Counters(requests=1000, predictions={"a": 500, "b": 500})
    assert judged(Counters(requests=2, predictions={"a": 2000}), stable).decision == "hold"


def test_a_stable_version_without_requests_leaves_the_absolute_limits() -> None:
    failing = judged(Counters(requests=200, errors=40), NOTHING)
    assert failing.reason == "20 % of 200 requests failed; at most 1 % is allowed"
    slow = judged(Counters(requests=200, durations=durations(150, 50)), NOTHING)
    assert slow.reason.endswith("predictions were slower than 0.5 s; at most 1 % is allowed")
    assert judged(Counters(requests=200, refusals=200), NOTHING, 30).decision == "hold"


@pytest.mark.parametrize(
    ("requests", "seconds", "decision", "reason"),
    [
        (499, 70, "hold", "499 of 500 requests and 70 of 60 s so far, within all limits"),
        (5000, 59, "hold", "5,000 of 500 requests and 59 of 60 s so far, within all limits"),
        (500, 60, "promote", "500 requests in 60 s, within all limits"),
        (12, 3600, "rollback", "only 12 of 500 requests came in 3600 s"),
    ],
)
def test_a_step_ends_with_enough_requests_and_time(
    requests: int, seconds: float, decision: str, reason: str
) -> None:
    found = judged(Counters(requests=requests), seconds=seconds)
    assert (found.decision, found.reason) == (decision, reason)


def test_a_passed_limit_comes_before_enough_requests() -> None:
    assert judged(Counters(requests=600, errors=300), seconds=3600).reason.startswith(
        "50 % of 600 requests failed"
    )


def test_the_bake_time_holds_until_a_limit_is_passed() -> None:
    good = watch(POLICY.health, 0.01, Counters(requests=10**6, errors=9_900), 300)
    assert (good.decision, good.reason) == (
        "hold",
        "1,000,000 requests in 300 s, within all limits",
    )
    bad = watch(POLICY.health, 0.01, Counters(requests=300, errors=30), 5)
    assert bad.reason == "10 % of 300 requests failed; at most 1 % is allowed"


def test_a_phase_takes_its_part_of_the_chance_of_a_false_rollback() -> None:
    assert phase_alpha(POLICY) == 0.01 / 4
    assert phase_alpha(SHADOWED) == 0.01 / 5
    assert phase_alpha(ReleasePolicy()) == 0.01


def test_of_a_thousand_classes_the_nearest_to_the_limit_are_kept() -> None:
    classes = {f"c{i}": 10 for i in range(1000)}
    found = judged(
        Counters(requests=10_000, predictions=classes),
        Counters(requests=20_000, predictions=classes | {"c7": 10_010}),
    )
    kept = [f for f in found.findings if f.metric == "predictions"]
    assert (len(kept), kept[0].detail, kept[0].breached) == (PARTS_KEPT, "class c7", True)


def test_an_analysis_goes_into_the_ledger_and_back() -> None:
    found = judged(Counters(requests=812, errors=33, predictions={"a": 3}))
    assert msgspec.convert(msgspec.to_builtins(found), Analysis) == found


counts = st.integers(0, 10_000)


@settings(deadline=None)
@given(
    st.builds(
        Counters,
        requests=counts,
        errors=counts,
        refusals=counts,
        durations=st.dictionaries(st.sampled_from(["0.01", "0.5", "+Inf"]), counts),
        predictions=st.dictionaries(st.sampled_from("abc"), counts),
        confidences=st.dictionaries(st.sampled_from(["0.5", "0.9", "1.0"]), counts),
        values=st.dictionaries(st.sampled_from(["-1.0", "0.0", "10.0", "+Inf"]), counts),
        rows_squared=counts,
    )
)
def test_nobody_is_worse_than_itself(counted: Counters) -> None:
    """Also where numbers were read while they changed: more errors than requests."""
    found = judged(counted, counted, baseline=counted)
    assert not any(f.breached for f in found.findings if f.stable is not None)
    for each in found.findings:
        assert 0 <= each.candidate.low <= each.candidate.share + 1e-9
        assert each.candidate.share - 1e-9 <= each.candidate.high <= 1


def shadowed(seconds: float = 30, **counted: float) -> Analysis:
    return judge_shadow(SHADOWED, msgspec.convert(counted, Agreement), seconds)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            shadowed(pairs=300, rows=300, disagreements=60),
            "20 % of 300 rows got another class or value; at most 5 % is allowed",
        ),
        (
            shadowed(pairs=300, rows=300, difference=90.0),
            "the predicted class's probability differs by 0.3 on average over "
            "300 rows; at most 0.1 is allowed",
        ),
        (
            shadowed(pairs=90, rows=90, failed=10),
            "10 % of 100 requests failed; at most 1 % is allowed",
        ),
        (
            shadowed(pairs=300, rows=300, slower=90, faster=3),
            "30 % of 300 predictions were over 50 ms and 3 times the other version's time, "
            "1 % of the stable version's 300; at most 5 % more is allowed",
        ),
        (shadowed(3600, pairs=3), "only 3 of 200 requests came in 3600 s"),
    ],
)
def test_a_shadow_that_answers_otherwise_goes_back(found: Analysis, reason: str) -> None:
    assert (found.decision, found.reason) == ("rollback", reason)


def test_a_shadow_that_agrees_goes_on_with_enough_pairs_and_time() -> None:
    agreed = {"pairs": 200, "rows": 400, "disagreements": 2, "difference": 1.5}
    assert shadowed(30, **agreed).decision == "promote"
    assert shadowed(29, **agreed).decision == "hold"
    assert shadowed(30, **agreed | {"pairs": 199}).decision == "hold"


def test_a_shadow_that_is_slow_as_often_as_the_stable_version_goes_on() -> None:
    found = shadowed(pairs=2000, rows=2000, slower=320, faster=320, candidate_ms=9e4, stable_ms=8e4)
    assert found.decision == "promote"
    assert found.reason == (
        "2,000 requests in 30 s, within all limits; 45 ms on average, the stable version 40 ms"
    )


def test_a_shadows_large_requests_count_once() -> None:
    alike = {"pairs": 2, "rows": 1001, "disagreements": 1000}
    assert shadowed(**alike).decision == "hold"
    assert shadowed(**alike | {"pairs": 300, "rows_squared": 10**6}).decision == "promote"


def test_a_policy_without_a_shadow_cannot_judge_one() -> None:
    with pytest.raises(ValueError, match="has no shadow"):
        judge_shadow(POLICY, Agreement(), 1)
