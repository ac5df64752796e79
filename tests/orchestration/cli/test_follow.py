import io
from collections.abc import Sequence
from contextlib import redirect_stdout

import pytest
from rich.console import Console

from deploy.dagster_client import RunStatus, Step
from orchestration.cli.follow import RunFailedError, render, require_success, title
from orchestration.cli.output import ago, megabytes


def run(status: str, *steps: Step, error: str | None = None) -> RunStatus:
    return RunStatus("1234", "iris_to_staging", status, 0.0, None, steps, error)


def shown(runs: Sequence[RunStatus], now: float) -> list[str]:
    with redirect_stdout(io.StringIO()) as text:
        Console(width=100, color_system=None, file=text).print(render(list(runs), now))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("iris__onnx_model", "onnx_model"),
        ("spam_detector__bento", "bento"),
        ("iris__onnx_model_conversion_parity", "conversion_parity (check)"),
        ("iris__staging_deployment_smoke_test", "smoke_test (check)"),
        ("iris__production_deployment_release_health", "release_health (check)"),
        ("iris__staging_deployment", "staging_deployment"),
        ("a__b__onnx_model", "onnx_model"),
        ("something_else", "something_else"),
    ],
)
def test_a_step_is_called_as_people_say_it(key: str, expected: str) -> None:
    assert title(Step(key, "SUCCESS", None, None)) == expected


def test_the_titles_fit_the_steps_that_dagster_makes() -> None:
    from orchestration.defs.lifecycle.names import Names

    key = Names("spam-detector").asset("onnx_model")
    assert title(Step(key.to_python_identifier(), "SUCCESS", None, None)) == "onnx_model"


def test_steps_are_shown_with_their_mark_and_their_time_so_far() -> None:
    steps = (
        Step("iris__onnx_model", "SUCCESS", 10.0, 12.5),
        Step("iris__onnx_model_conversion_parity", "FAILURE", 12.5, 13.0),
        Step("iris__bento", "IN_PROGRESS", 13.0, None),
        Step("iris__staging_deployment", "WAITING", None, None),
    )
    assert shown([run("STARTED", *steps)], now=20.0) == [
        "✓ onnx_model 2.5 s",
        "✗ conversion_parity (check) 0.5 s",
        "▸ bento 7.0 s",
        "· staging_deployment",
    ]


def test_a_run_that_has_no_step_yet_says_what_it_waits_for() -> None:
    assert shown([run("QUEUED")], now=0.0) == ["▸ iris_to_staging is queued"]
    assert shown([run("FAILURE")], now=0.0) == []


class Dagster:
    """As far as a failed run goes."""

    url = "http://127.0.0.1:3000"

    def run(self, run_id: str) -> RunStatus:
        return run("FAILURE", error="no signature")


def test_a_run_that_failed_is_one_sentence_with_its_error_and_where_to_read_more() -> None:
    for failed in (run("FAILURE", error="no signature"), run("FAILURE")):
        with pytest.raises(RunFailedError) as caught:
            require_success(Dagster(), failed)  # type: ignore[arg-type]
        assert str(caught.value) == (
            "iris_to_staging: no signature (http://127.0.0.1:3000/runs/1234)"
        )
    require_success(Dagster(), run("SUCCESS"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (0.4, "0 s"), (59, "59 s"), (61, "1 min"), (7200, "2 h"), (200000, "2 d")],
)
def test_a_duration_is_said_as_people_do(seconds: float, expected: str) -> None:
    assert ago(seconds) == expected


def test_memory_is_in_megabytes() -> None:
    assert megabytes(1_234_567_890) == "1,235 MB"
