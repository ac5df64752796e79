from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from deploy.events import Event, LedgerError
from deploy.history import (
    brought_in,
    in_force,
    last_healthy,
    release_result,
    serving_at,
    taken_away,
)
from tests.deploy.histories import START, History, phase
from tests.deploy.releases import live


def healthy_version(history: History) -> int | None:
    found = last_healthy(history.events)
    assert found is None or (found.weight, found.mirror) == (100, 0)
    return None if found is None else found.version


def minutes(number: float) -> datetime:
    return START + timedelta(minutes=number)


def test_what_served_at_a_time_is_what_the_last_event_before_it_led_to() -> None:
    events = History().promote(1, 2).events
    assert serving_at(events, minutes(0.9)) is None
    assert serving_at(events, minutes(1)) == events[0]
    assert serving_at(events, minutes(1.9)) == events[0]
    assert serving_at(events, minutes(2)) == events[1]
    assert serving_at(events, minutes(900)) == events[1]
    assert serving_at([], minutes(1)) is None


def test_the_time_zone_of_the_question_does_not_matter() -> None:
    events = History().promote(1, 2).events
    moment = datetime.fromisoformat("2026-11-20T17:31:30+05:30")
    assert serving_at(events, moment) == events[0]


def test_a_row_that_says_no_time_is_an_error_not_an_answer() -> None:
    (event,) = History().promote(1).events
    with pytest.raises(LedgerError, match="event 1 says no time"):
        serving_at([replace(event, at="noon")], minutes(1))


def test_of_nothing_or_of_a_first_version_there_is_no_way_back() -> None:
    assert last_healthy([]) is None
    assert healthy_version(History().promote(1)) is None


def test_the_way_back_is_the_version_before() -> None:
    assert healthy_version(History().promote(1, 2, 3)) == 2


def test_a_second_rollback_goes_further_back_and_not_forward_again() -> None:
    history = History().promote(1, 2, 3)
    history.add("rollback", {2: 100})
    assert healthy_version(history) == 1
    history.add("rollback", {1: 100})
    assert healthy_version(history) is None


def test_a_version_released_again_after_its_rollback_is_healthy_again() -> None:
    history = History().promote(1, 2)
    history.add("rollback", {1: 100})
    history.promote(2, 3)
    assert healthy_version(history) == 2


def test_a_canary_that_was_rolled_back_is_never_the_way_back() -> None:
    history = History().promote(1, 2)
    history.canary(3, 2, 5)
    history.add("rollback", {2: 100})
    assert healthy_version(history) == 1


def test_a_candidate_that_never_had_traffic_is_condemned_by_its_rollback() -> None:
    history = History().promote(1, 2, 3)
    history.add("shadow", {3: 100, 2: 0}, phase("shadow", 2, 3), mirror=20)
    history.add("rollback", {3: 100})
    assert healthy_version(history) == 1


def test_in_a_release_the_way_back_is_its_stable_version() -> None:
    history = History().promote(1, 2)
    history.canary(3, 2, 25)
    assert healthy_version(history) == 2
    history.bake(3, 2)
    assert healthy_version(history) == 2


def test_in_a_release_that_has_no_stable_version_the_way_back_is_the_one_before() -> None:
    history = History().promote(1, 2)
    history.add("promote", {3: 100}, phase("bake", 3, None))
    assert healthy_version(history) == 2
    first = History()
    first.add("promote", {1: 100}, phase("bake", 1, None))
    assert healthy_version(first) is None


def test_a_version_that_was_found_unhealthy_is_not_the_way_back() -> None:
    history = History().promote(1)
    history.add("unhealthy", {1: 100})
    history.promote(2)
    assert healthy_version(history) is None


def test_after_a_release_the_way_back_is_what_it_replaced() -> None:
    history = History().promote(1, 2)
    history.bake(3, 2)
    history.add("healthy", {3: 100})
    assert healthy_version(history) == 2


def test_a_change_that_was_taken_back_never_was() -> None:
    history = History().promote(1, 2, 3)
    history.add("revert", {2: 100})
    assert healthy_version(history) == 1
    history.add("rollback", {1: 100})
    history.add("revert", {2: 100})
    assert healthy_version(history) == 1
    assert [event.live for event in in_force(history.events)] == [(live(1),), (live(2),)]


def test_a_first_change_that_was_taken_back_leaves_nothing() -> None:
    history = History().promote(1)
    history.add("revert", {})
    assert (last_healthy(history.events), in_force(history.events)) == (None, [])


def test_from_a_split_by_hand_the_way_back_is_who_had_all_traffic_before_it() -> None:
    history = History().promote(1, 2)
    history.add("load", {2: 100, 3: 0})
    history.add("split", {2: 90, 3: 10})
    assert healthy_version(history) == 2
    history.add("rollback", {2: 100})
    assert healthy_version(history) == 1


def test_the_last_build_of_a_version_is_what_one_returns_to() -> None:
    history = History().promote(1, 1, 2)
    rebuilt = replace(live(1), bento="iris:again", bento_digest="f" * 64)
    history.events[1] = replace(history.events[1], live=(rebuilt,))
    assert last_healthy(history.events) == rebuilt


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("promote"), st.integers(1, 4)),
        st.tuples(st.just("split"), st.integers(1, 4)),
        st.tuples(st.just("canary"), st.integers(1, 4)),
        st.tuples(st.just("rollback"), st.just(0)),
        st.tuples(st.just("revert"), st.just(0)),
    ),
    max_size=12,
)


def serving(history: History) -> int | None:
    """Who has most of the traffic."""
    lives = history.events[-1].live if history.events else ()
    return max(lives, key=lambda item: item.weight).version if lives else None


def played(steps: list[tuple[str, int]]) -> History:
    """Only what the traffic's owner would do: a rollback goes where `last_healthy` says."""
    history = History()
    for action, version in steps:
        now = serving(history)
        if action == "promote" or now is None:
            history.promote(max(version, 1))
        elif action in ("split", "canary") and version != now:
            if action == "split":
                history.add("split", {now: 60, version: 40})
            else:
                history.canary(version, now, 40)
        elif action == "rollback" and (target := last_healthy(history.events)):
            history.add("rollback", {target.version: 100})
        elif action == "revert" and history.events[-1].action != "revert":
            before = history.events[-2].live if len(history.events) > 1 else ()
            history.add("revert", {item.version: item.weight for item in before})
    return history


def all_traffic(event: Event, version: int) -> bool:
    return live(version) in event.live


@given(STEPS)
def test_the_way_back_had_all_traffic_has_it_no_longer_and_was_not_rolled_back_from_since(
    steps: list[tuple[str, int]],
) -> None:
    events = played(steps).events
    found = last_healthy(events)
    if found is None:
        return
    assert not all_traffic(events[-1], found.version)
    kept = in_force(events)
    had = [n for n, event in enumerate(kept) if all_traffic(event, found.version)]
    assert had
    for before, event in zip(kept[had[-1] :], kept[had[-1] + 1 :], strict=False):
        if event.action == "rollback":
            assert all(item.version != found.version for item in before.live)


@given(STEPS)
def test_rollbacks_one_after_the_other_come_to_an_end_and_never_meet_a_version_twice(
    steps: list[tuple[str, int]],
) -> None:
    history = played(steps)
    seen: list[int] = []
    while (target := last_healthy(history.events)) is not None:
        seen.append(target.version)
        history.add("rollback", {target.version: 100})
    assert len(seen) == len(set(seen)) <= 4


def test_a_release_is_in_progress_until_its_candidate_has_all_traffic() -> None:
    history = History().promote(1)
    started = history.canary(2, 1, 5)
    assert release_result(history.events, started) == ("in progress", started)
    later = history.canary(2, 1, 25)
    assert release_result(history.events, started) == ("in progress", later)
    promoted = history.bake(2, 1)
    assert release_result(history.events, started) == ("released", promoted)
    history.add("healthy", {2: 100})
    history.promote(3)
    assert release_result(history.events, started) == ("released", promoted)


def test_a_direct_release_without_a_bake_time_is_over_when_it_begins() -> None:
    history = History().promote(1)
    assert release_result(history.events, history.events[0]) == ("released", history.events[0])


@pytest.mark.parametrize("baking", [False, True], ids=["canary", "bake"])
def test_a_release_that_is_rolled_back_says_so(baking: bool) -> None:
    history = History().promote(1)
    started = history.canary(2, 1, 5)
    if baking:
        history.bake(2, 1)
    rolled_back = history.add("rollback", {1: 100})
    history.promote(3)
    assert release_result(history.events, started) == ("rolled back", rolled_back)


def test_a_split_by_hand_ends_a_canary_but_does_not_undo_a_release() -> None:
    history = History().promote(1)
    started = history.canary(2, 1, 5)
    split = history.add("split", {1: 50, 2: 50})
    assert release_result(history.events, started) == ("superseded", split)
    history.bake(2, 1)
    assert release_result(history.events, started) == ("superseded", split)
    baked = history.events[-1]
    history.add("split", {1: 50, 2: 50})
    assert release_result(history.events, baked) == ("released", baked)


def test_another_release_supersedes_the_one_in_progress() -> None:
    history = History().promote(1)
    started = history.canary(2, 1, 5)
    other = history.canary(3, 1, 5)
    assert release_result(history.events, started) == ("superseded", other)


def test_a_release_whose_first_change_was_taken_back_is_rolled_back() -> None:
    history = History().promote(1, 2)
    reverted = history.add("revert", {1: 100})
    assert release_result(history.events, history.events[1]) == ("rolled back", reverted)


def test_a_step_that_was_taken_back_goes_on_where_the_phase_says_so_and_ends_otherwise() -> None:
    history = History().promote(1)
    started = history.canary(2, 1, 5)
    history.bake(2, 1)
    back = history.add("revert", {1: 95, 2: 5}, phase("canary", 2, 1))
    assert release_result(history.events, started) == ("in progress", back)
    history.events[-1] = replace(back, evidence={})
    assert release_result(history.events, started) == ("superseded", history.events[-1])


def test_a_run_that_lost_the_traffic_of_its_release_is_told_how() -> None:
    history = History().promote(1)
    history.add("load", {1: 100, 2: 0})
    started = history.canary(2, 1, 5)
    assert taken_away(history.events, {"run-2"}) is None  # killed before it got traffic
    assert taken_away(history.events, {"run-3"}) is None  # in progress
    back = history.add("rollback", {1: 100})
    assert taken_away(history.events, {"another", started.dagster_run or ""}) == (
        "rolled back",
        back,
    )
    assert taken_away(history.events, {"another"}) is None


def test_a_run_whose_release_was_over_and_lost_its_traffic_later_is_told_too() -> None:
    history = History().promote(1, 2)
    assert taken_away(history.events, {"run-2"}) is None
    back = history.add("rollback", {1: 100})
    assert taken_away(history.events, {"run-2"}) == ("superseded", back)
    history.add("revert", {2: 100})
    assert taken_away(history.events, {"run-2"}) is None


def test_who_brought_a_version_in_is_the_event_since_which_it_is_live_without_a_gap() -> None:
    history = History().promote(1, 2)
    history.add("rollback", {1: 100})
    second = history.canary(2, 1, 5)
    history.canary(2, 1, 25)
    last = history.bake(2, 1)
    assert brought_in(history.events, last, live(2).bento_digest) == second
    assert brought_in(history.events, last, live(1).bento_digest) == history.events[2]
    assert brought_in(history.events, last, "0" * 64) == last
    history.promote(3)
    history.add("revert", {1: 0, 2: 100})
    assert brought_in(history.events, history.events[-1], live(2).bento_digest) == second
