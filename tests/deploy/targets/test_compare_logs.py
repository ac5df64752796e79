"""Two access logs joined by request id, however they are written, rotated and looked at."""

import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.model_server.access_log import Line
from bentos.model_server.session import Scored
from deploy.analysis.agreement import Agreement
from deploy.events import State
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.logs import rotate
from deploy.targets import compare_logs
from deploy.targets.base import TargetError
from deploy.targets.compare_logs import ComparedLogs, KeptLogs
from deploy.targets.local import LocalTarget
from serving_config.schema import Configuration, Environment, Model, Platform
from tests.deploy.gateway.running import until
from tests.deploy.releases import change, live

SINCE = "2026-01-01T00:00:10.000+00:00"
LABELS = ("no", "yes")
OTHER_LINES = (
    b"Traceback (most recent call last):",
    b'{"level":"ERROR","message":"\\"predictions\\": none"}',
    b'{"predictions":',
    b"\xff\x00",
    b"",
)


def written(
    request_id: str,
    scored: Scored | None,
    *,
    status: int = 200,
    second: float = 10,
    milliseconds: float = 1.0,
) -> bytes:
    """A line as the model server writes it."""
    whole, part = divmod(round(second * 1000), 1000)
    line = Line(
        f"2026-01-01T00:{whole // 60:02d}:{whole % 60:02d}.{part:03d}Z",
        request_id, "POST", "/predict", status, milliseconds, "iris", "3", 1,
    )  # fmt: skip
    if scored is not None:
        line.compare(scored)
    return msgspec.json.encode(line)


def yes(probability: float, rows: int = 1) -> Scored:
    label = LABELS[probability > 0.5]
    return Scored([label] * rows, [[1 - probability, probability]] * rows)


class Logs:
    """Both logs below a folder, and what reads them."""

    def __init__(self, folder: Path, since: str = SINCE) -> None:
        self.folder = folder
        self.paths = {who: folder / f"{who}.log" for who in ("candidate", "stable")}
        for path in self.paths.values():
            path.touch()
        self.compared = self.anew(since)

    def anew(self, since: str = SINCE) -> ComparedLogs:
        return ComparedLogs(self.paths["candidate"], self.paths["stable"], since, slowdown=3)

    def write(self, who: str, *lines: bytes) -> None:
        with self.paths[who].open("ab") as log:
            log.write(b"".join(line + b"\n" for line in lines))

    def look(self) -> Agreement:
        return self.compared.look()


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


def test_what_both_answered_is_a_pair_with_its_differences_and_durations(logs: Logs) -> None:
    logs.write("stable", written("a", yes(0.9), milliseconds=2), written("b", yes(0.4)))
    logs.write("candidate", written("a", yes(0.7), milliseconds=5), written("b", yes(0.6)))
    found = logs.look()
    assert (found.pairs, found.rows, found.disagreements, found.failed) == (2, 2, 1, 0)
    assert found.difference == pytest.approx(0.2 + 0.2)
    assert (found.candidate_ms, found.stable_ms) == (6, 3)
    assert logs.look() == found


def test_each_row_of_a_batch_counts(logs: Logs) -> None:
    logs.write("stable", written("a", yes(0.9, rows=3)))
    logs.write("candidate", written("a", yes(0.1, rows=3)))
    found = logs.look()
    assert (found.pairs, found.rows, found.disagreements) == (1, 3, 3)
    assert found.difference == pytest.approx(2.4)
    logs.write("stable", written("b", yes(0.9, rows=2)))
    logs.write("candidate", written("b", yes(0.9, rows=2)))
    assert (logs.look().rows, logs.look().rows_squared) == (5, 9 + 4)


@pytest.mark.parametrize(
    ("stable", "candidate", "differ"),
    [(10.0, 10.9, 0), (10.0, 12.0, 1), (-1.0, 1.0, 1), (0.0, 0.0, 0)],
)
def test_values_agree_within_a_tenth(
    stable: float, candidate: float, differ: int, logs: Logs
) -> None:
    logs.write("stable", written("a", Scored([stable], None)))
    logs.write("candidate", written("a", Scored([candidate], None)))
    found = logs.look()
    assert (found.rows, found.disagreements, found.difference) == (1, differ, 0.0)


def test_classes_that_are_numbers_agree_only_when_they_are_the_same(logs: Logs) -> None:
    logs.write("stable", written("a", Scored([100.0], [[0.9, 0.1]])))
    logs.write("candidate", written("a", Scored([101.0], [[0.1, 0.9]])))
    assert logs.look().disagreements == 1


def test_a_class_more_in_the_candidate_does_not_shift_the_others(logs: Logs) -> None:
    logs.write("stable", written("a", yes(0.9)), written("b", yes(0.9)))
    more = Scored(["yes"], [[0.05, 0.1, 0.85]]), Scored(["maybe"], [[0.1, 0.8, 0.1]])
    logs.write("candidate", written("a", more[0]), written("b", more[1]))
    assert logs.look().difference == pytest.approx(0.05 + 0.9)


@pytest.mark.parametrize("status", [422, 500, 503])
def test_what_the_stable_version_answers_and_the_candidate_does_not_has_failed(
    status: int, logs: Logs
) -> None:
    logs.write("stable", written("a", yes(0.9)), written("b", None, status=status))
    logs.write("candidate", written("a", None, status=status), written("b", None, status=status))
    found = logs.look()
    assert (found.pairs, found.failed) == (0, 1)


def test_an_id_that_a_client_uses_again_and_again_is_one_pair(logs: Logs) -> None:
    logs.write("stable", *[written("a", yes(probability)) for probability in (0.9, 0.1, 0.1)])
    logs.write("candidate", *[written("a", yes(probability)) for probability in (0.1, 0.9)])
    assert logs.look().disagreements == 1
    logs.write("stable", written("a", yes(0.9)))
    logs.write("candidate", written("a", yes(0.1)))
    found = logs.look()
    assert (found.pairs, found.disagreements) == (1, 1)


def test_what_was_answered_before_does_not_count(logs: Logs) -> None:
    for who in ("stable", "candidate"):
        logs.write(who, written("a", yes(0.9), second=9.999), written("b", yes(0.9), second=10))
    assert logs.look().pairs == 1


def test_the_moment_may_be_told_in_any_time_zone(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "2026-01-01T02:00:10+02:00")
    for who in ("stable", "candidate"):
        logs.write(who, written("a", yes(0.9), second=9.999), written("b", yes(0.9), second=10))
    assert logs.look().pairs == 1


def test_half_a_line_is_read_when_it_is_whole(logs: Logs) -> None:
    logs.write("stable", written("a", yes(0.9)))
    line = written("a", yes(0.9)) + b"\n"
    for part in (line[:40], line[40:-1]):
        with logs.paths["candidate"].open("ab") as log:
            log.write(part)
        assert logs.look().pairs == 0
    with logs.paths["candidate"].open("ab") as log:
        log.write(b"\n")
    assert logs.look().pairs == 1


def test_after_a_restart_the_files_tell_the_same_again(logs: Logs) -> None:
    for number in range(10):
        for who in ("stable", "candidate"):
            logs.write(who, written(str(number), yes(0.9)))
        if number == 5:
            rotate(logs.folder, max_bytes=1)
    first = logs.look()
    assert first.pairs == 10
    assert logs.anew().look() == first


def test_a_log_that_has_grown_beyond_the_last_look_since_it_was_rotated_is_read_from_its_start(
    logs: Logs,
) -> None:
    def answer(*names: str) -> None:
        for who in logs.paths:
            logs.write(who, *[written(name, yes(0.9)) for name in names])

    answer("a", "b")
    assert logs.look().pairs == 2
    answer("c")
    rotate(logs.folder, max_bytes=0)
    answer("d", "e", "f", "g")
    assert logs.look().pairs == 7


def test_of_two_rotations_between_two_looks_the_last_is_read_whole(logs: Logs) -> None:
    for names in ("a", "b", "cde", "f"):
        for who in logs.paths:
            logs.write(who, *[written(name, yes(0.9)) for name in names])
        if names == "a":
            logs.look()
        elif names != "f":
            rotate(logs.folder, max_bytes=0)
    assert logs.look().pairs == 5  # b is lost


def test_what_waits_for_its_other_half_is_bounded_in_number_and_time(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_logs, "MAX_WAITING", 10)
    logs.write("stable", *[written(str(number), yes(0.9)) for number in range(30)])
    assert logs.look().pairs == 0
    logs.write("candidate", *[written(str(number), yes(0.9)) for number in range(30)])
    assert logs.look().pairs == 10  # the last ones
    logs.write("stable", written("old", yes(0.9), second=20), written("new", yes(0.9), second=81))
    logs.look()
    logs.write("candidate", *[written(name, yes(0.9), second=81) for name in ("old", "new")])
    assert logs.look().pairs == 11


PROBABILITIES = st.sampled_from([0.1, 0.3, 0.45, 0.55, 0.9])
ANSWERS = st.tuples(
    st.sampled_from(["candidate", "stable"]),
    st.sampled_from([f"request-{number}" for number in range(4)]),
    st.one_of(PROBABILITIES, st.sampled_from([422, 500])),
    st.sampled_from([9.5, 10.0, 10.5, 30.0]),
)
STEPS = st.lists(
    st.one_of(
        ANSWERS.map(lambda answer: ("write", answer)),
        st.tuples(st.just("other"), st.sampled_from(OTHER_LINES)),
        st.tuples(st.sampled_from(["half", "torn"]), ANSWERS),
        st.just(("look", None)),
        st.just(("rotate", None)),
    ),
    max_size=60,
)


def directly(answers: list[tuple[str, str, Any, float]]) -> dict[str, float]:
    """The same from the answers themselves: the first of each id on each side."""
    first: dict[str, dict[str, Any]] = {"candidate": {}, "stable": {}}
    for who, request_id, said, second in answers:
        if second >= 10 and (who == "candidate" or isinstance(said, float)):
            first[who].setdefault(request_id, said)
    shared = first["candidate"].keys() & first["stable"].keys()
    failed = {name for name in shared if not isinstance(first["candidate"][name], float)}
    pairs = [(first["candidate"][name], first["stable"][name]) for name in shared - failed]
    return {
        "pairs": len(pairs),
        "failed": len(failed),
        "disagreements": sum((ours > 0.5) != (theirs > 0.5) for ours, theirs in pairs),
        "difference": pytest.approx(sum(abs(ours - theirs) for ours, theirs in pairs)),
    }


@settings(deadline=None, max_examples=200)
@given(STEPS)
def test_any_interleaving_rotation_and_torn_line_counts_as_the_answers_themselves(
    steps: list[tuple[str, Any]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        logs = Logs(Path(folder))
        answers, rotated = [], False
        for kind, what in steps:
            if kind == "other":
                for who in logs.paths:
                    logs.write(who, what)
            elif kind == "look":
                logs.look()
                rotated = False
            elif kind == "rotate" and not rotated:  # no log is rotated twice between two looks
                rotate(logs.folder, max_bytes=0)
                rotated = True
            elif kind in ("write", "half", "torn"):
                who, request_id, said, second = what
                scored = yes(said) if isinstance(said, float) else None
                status = 200 if isinstance(said, float) else said
                line = written(request_id, scored, status=status, second=second) + b"\n"
                answers.append(what)
                with logs.paths[who].open("ab") as log:
                    log.write(line[:50])
                    log.flush()
                    if kind == "torn" and not rotated:
                        rotate(logs.folder, max_bytes=0)
                        rotated = True
                    if kind == "half":
                        logs.look()
                        rotated = False
                    log.write(line[50:])
        found = logs.look()
        expected = directly(answers)
        assert {name: getattr(found, name) for name in expected} == expected


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    opened = Ledger("sqlite://")
    yield opened
    opened.close()


@pytest.fixture
def target(tmp_path: Path, ledger: Ledger) -> LocalTarget:
    home = Home(tmp_path).create()
    ledger.record(change(State("production", "iris"), live(1), live(2, weight=0)))
    configuration = Configuration(
        platform=Platform(default_model="iris"),
        environments={name: Environment(name=name) for name in ("staging", "production")},
        models={"iris": Model(name="iris")},
    )
    return LocalTarget(home, configuration, ledger, "/")


CANDIDATE = cluster_name("production", "iris", live(2, weight=0))
STABLE = cluster_name("production", "iris", live(1))


def test_the_target_reads_the_logs_of_both_servers_and_reads_on(target: LocalTarget) -> None:
    def answer(request_id: str) -> None:
        for name in (CANDIDATE, STABLE):
            with (target.home.logs / f"{name}.log").open("ab") as log:
                log.write(written(request_id, yes(0.9)) + b"\n")

    answer("a")
    assert target.agreement(CANDIDATE, STABLE, SINCE, 3).pairs == 1
    answer("b")
    assert target.agreement(CANDIDATE, STABLE, SINCE, 3).pairs == 2
    assert target.agreement(CANDIDATE, STABLE, "2026-01-01T00:00:10.001Z", 3).pairs == 0


def test_without_an_access_log_there_is_nothing_to_compare(target: LocalTarget) -> None:
    silent = {"production": Environment(name="production", access_log=False)}
    quiet = target.configuration.model_copy(update={"environments": silent})
    with pytest.raises(TargetError, match="environment production has access_log: false: "):
        replace(target, configuration=quiet).agreement(CANDIDATE, STABLE, SINCE, 3)


def test_a_log_that_is_not_there_and_a_server_that_is_not_live_are_named(
    target: LocalTarget,
) -> None:
    with pytest.raises(TargetError, match=rf"{CANDIDATE}\.log: No such file"):
        target.agreement(CANDIDATE, STABLE, SINCE, 3)
    with pytest.raises(TargetError, match="iris-9 is not live"):
        target.agreement("iris-9", STABLE, SINCE, 3)


@pytest.mark.parametrize(
    ("candidate_ms", "stable_ms", "slower", "faster"),
    [(51, 10, 1, 0), (50, 10, 0, 0), (290, 100, 0, 0), (310, 100, 1, 0), (1, 51, 0, 1)],
)
def test_slow_is_over_50_ms_and_three_times_the_other_one_of_the_pair(
    candidate_ms: float, stable_ms: float, slower: int, faster: int, logs: Logs
) -> None:
    logs.write("candidate", written("a", yes(0.9), milliseconds=candidate_ms))
    logs.write("stable", written("a", yes(0.9), milliseconds=stable_ms))
    found = logs.look()
    assert (found.slower, found.faster) == (slower, faster)


def test_logs_that_nobody_has_looked_at_for_a_while_are_let_go(logs: Logs) -> None:
    kept = KeptLogs(idle_seconds=0.01)
    gone = weakref.ref(kept.logs(logs.paths["candidate"], logs.paths["stable"], SINCE, 3))
    until(lambda: gone() is None)


def test_logs_are_kept_as_long_as_somebody_looks(logs: Logs) -> None:
    kept = KeptLogs(idle_seconds=60)
    first, second = (
        kept.logs(logs.paths["candidate"], logs.paths["stable"], SINCE, 3) for _ in range(2)
    )
    assert first is second
