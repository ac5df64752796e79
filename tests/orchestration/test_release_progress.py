from deploy.control.progress import Progress
from orchestration.release_progress import Reporter, is_release_of, sentence
from tests.orchestration.lifecycle.ledgers import analysis


def progress(step: int = 0, failed: int = 0, phase: str = "canary") -> Progress:
    return Progress(
        environment="production",
        model="iris",
        generation=3,
        candidate="2",
        stable="1",
        phase=phase,
        step=step,
        weight=(10, 50)[step],
        wanted_requests=500,
        wanted_seconds=60,
        analysis=analysis("rollback" if failed else "hold", "too many failed", failed),
        at="2026-01-01T00:00:00.000+00:00",
    )


def test_a_release_in_progress_is_one_line_with_what_it_waits_for() -> None:
    assert sentence(progress()) == (
        "canary 10 %: 200 of 500 requests, 4 of 60 s, errors 0.0 % (stable 0.1 %), "
        "no difference found"
    )
    assert sentence(progress(failed=20)).endswith("errors 10.0 % (stable 0.1 %), too many failed")


def test_each_step_is_said_at_once_and_in_between_only_now_and_then() -> None:
    said: list[str] = []
    reporter = Reporter(said.append, every=10)
    for now, item in enumerate([None, progress(), progress(), progress(1), progress(1)]):
        reporter.look(item, float(now))
    assert [text.partition(":")[0] for text in said] == ["canary 10 %", "canary 50 %"]
    reporter.look(progress(1), 13.1)
    assert len(said) == 3


def test_the_bake_time_of_another_release_is_not_this_one_s_progress() -> None:
    assert is_release_of(progress(), "2")
    assert not is_release_of(progress(), "3")
    assert not is_release_of(progress(phase="bake"), "2")
