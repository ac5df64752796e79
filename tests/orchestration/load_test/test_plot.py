import warnings
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestration.load_test.connection import Address
from orchestration.load_test.errors import LoadTestError
from orchestration.load_test.generator import Generator
from orchestration.load_test.plan import SECOND, ClosedLoop
from orchestration.load_test.plot import FAILED, MEDIAN, TAIL, TEXT, WORST, write_plot
from orchestration.load_test.recorder import Recorder


def ended(recorder: Recorder) -> Generator:
    finished = Generator(ClosedLoop(), Address("127.0.0.1", 1), [b""], recorder)
    finished.ended = 3 * SECOND
    return finished


def recorded(answers: int, failures: int = 0) -> Recorder:
    recorder = Recorder()
    for number in range(answers):
        recorder.answered(0, (number + 1) * 2 * SECOND // answers, 200, "1", 10)
    for _ in range(failures):
        recorder.failed(0, SECOND, "timeout")
    return recorder


def test_an_svg_has_titles_and_axes_with_units(tmp_path: Path) -> None:
    write_plot(tmp_path / "load.svg", ended(recorded(5000, 7)), "iris in staging")
    root = ElementTree.parse(tmp_path / "load.svg").getroot()  # noqa: S314 - our own file
    texts = {"".join(element.itertext()).strip() for element in root.iter()}
    for wanted in (
        "iris in staging",
        "latency (ms)",
        "time since the warm-up (s)",
        "requests/s",
        "percentile",
        "99.9 %",
        "p99",
        "failed",
    ):
        assert wanted in texts


@pytest.mark.parametrize(("answers", "failures"), [(0, 0), (0, 9), (1, 0), (3, 1)])
def test_hardly_any_answers_are_a_picture_too(answers: int, failures: int, tmp_path: Path) -> None:
    path = tmp_path / "load.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_plot(path, ended(recorded(answers, failures)), "iris")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "load.svg").mkdir()
    with pytest.raises(LoadTestError, match="cannot be written"):
        write_plot(tmp_path / "load.svg", ended(recorded(1)), "iris")


@pytest.mark.parametrize("page", ["#ffffff", "#0d1117"])
@pytest.mark.parametrize(
    ("colour", "least"), [(TEXT, 3.8), (MEDIAN, 3), (TAIL, 3), (WORST, 3), (FAILED, 3)]
)
def test_colours_stand_out_from_a_light_and_a_dark_page(
    page: str, colour: str, least: float
) -> None:
    """WCAG 2.2 wants a contrast of 3 for graphics and large text."""
    dark, light = sorted((luminance(page), luminance(colour)))
    assert (light + 0.05) / (dark + 0.05) >= least


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
