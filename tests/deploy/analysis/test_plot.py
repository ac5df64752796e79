from xml.etree import ElementTree

import pytest

from deploy.analysis.plot import CANDIDATE, LIMIT, STABLE, analysis_svg
from deploy.analysis.verdict import compare, phase_alpha, watch
from deploy.events import Counters
from serving_config.release import ReleasePolicy

POLICY = ReleasePolicy(policy="canary")
SEEN = Counters(
    requests=1000,
    errors=2,
    durations={"0.1": 990, "+Inf": 8},
    predictions={"ham": 600, "spam & <eggs>": 398},
)
STEP = compare(POLICY, SEEN, SEEN, SEEN, 60)


def texts(svg: bytes) -> list[str]:
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own picture
    return [e.text for e in root.iter("{http://www.w3.org/2000/svg}text") if e.text]


def test_a_picture_names_both_versions_and_each_part_and_has_no_background() -> None:
    svg = analysis_svg("4", "3-int8", [STEP])
    found = texts(svg)
    for wanted in ("version 4", "version 3-int8", "limit", "refusals", "class spam & <eggs>"):
        assert wanted in found
    said = svg.decode()
    assert all(colour in said for colour in (CANDIDATE, STABLE, LIMIT))
    assert "fill: #ffffff" not in said


def test_several_steps_stand_below_each_other() -> None:
    found = texts(analysis_svg("4", "3", [STEP, STEP]))
    assert [text for text in found if text.startswith("step ") and "class" in text] == [
        "step 1: class ham",
        "step 2: class ham",
    ]


def test_a_bake_time_has_no_stable_version() -> None:
    baked = watch(POLICY.health, phase_alpha(POLICY), SEEN, 5)
    assert "absolute" in texts(analysis_svg("4", "3", [baked]))


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert analysis_svg("4", "3", [STEP]) == analysis_svg("4", "3", [STEP])


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        analysis_svg("4", "3", [])
