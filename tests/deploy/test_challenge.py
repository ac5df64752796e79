import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.challenge import Challenge, ChallengeError, Champion, Comparison, decode_challenge

CHAMPION = Champion(2, "b" * 64)
SCORES = st.floats(0, 1)


def compared(candidate: float, production: float, **more: object) -> Challenge:
    found = {"metric": "accuracy", "min_gain": 0.0, "rows": 90, "left_out": 1} | more
    comparison = msgspec.convert(
        found | {"candidate": candidate, "production": production, "holdout_sha256": "c" * 64},
        Comparison,
    )
    return challenge(comparison=comparison)


def challenge(**more: object) -> Challenge:
    fields = {"model": "iris", "version": 3, "onnx_sha256": "a" * 64, "champion": CHAMPION}
    return Challenge(**(fields | {"retrained_because": "drift failed"} | more))  # type: ignore[arg-type]


@given(SCORES, SCORES, st.floats(0, 1))
def test_better_means_strictly_and_by_the_gain_whichever_way_the_metric_goes(
    candidate: float, production: float, gain: float
) -> None:
    higher = compared(candidate, production, min_gain=gain)
    lower = compared(candidate, production, min_gain=gain, metric="rmse")
    assert higher.passed == (candidate - production > gain)
    assert lower.passed == (production - candidate > gain)
    assert decode_challenge(higher.encode()) == higher


def test_equally_good_is_not_better() -> None:
    assert not compared(0.9, 0.9).passed
    assert "not better" in compared(0.9, 0.9).verdict


def test_a_score_that_is_none_is_not_better() -> None:
    assert not compared(math.nan, 0.9).passed
    assert not compared(0.9, math.nan).passed


def test_who_has_nobody_to_beat_passes_and_says_why() -> None:
    by_hand = challenge(retrained_because="")
    first = challenge(champion=None)
    same = challenge(champion=Champion(2, "a" * 64))
    assert by_hand.passed
    assert "no check asked" in by_hand.verdict
    assert first.passed
    assert "serves no version" in first.verdict
    assert same.passed


def test_a_retrained_version_that_was_not_compared_does_not_pass() -> None:
    missing = challenge(failure="its training run left no hold-out")
    assert not challenge().passed
    assert not missing.passed
    assert "left no hold-out" in missing.verdict


def test_what_it_proves_is_for_that_graph_and_that_champion() -> None:
    better = compared(0.95, 0.9)
    better.require("a" * 64)
    with pytest.raises(ChallengeError, match="another graph"):
        better.require("f" * 64)
    assert better.won_against(CHAMPION)
    for other in (None, Champion(4, "d" * 64)):
        assert not better.won_against(other)
    with pytest.raises(ChallengeError, match=r"not better.*0\.8.*0\.9"):
        compared(0.8, 0.9).require("a" * 64)
    challenge(retrained_because="").require("a" * 64)
    assert not challenge(retrained_because="").won_against(CHAMPION)


def test_a_verdict_that_somebody_wrote_into_the_file_counts_for_nothing() -> None:
    worse = compared(0.8, 0.9).encode().replace(b'"passed": false', b'"passed": true')
    assert b'"passed": true' in worse
    assert not decode_challenge(worse).passed
    for damaged in (b"", b"{}", worse[:-20], worse.replace(b'"model"', b'"modell"')):
        with pytest.raises(ChallengeError, match=r"challenger\.json"):
            decode_challenge(damaged)
