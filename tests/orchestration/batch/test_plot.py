"""The picture of what was predicted is one that a browser draws, whatever was predicted."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from orchestration.batch.documents import Distribution
from orchestration.batch.plot import distribution_svg

_SVG = "{http://www.w3.org/2000/svg}"


def texts(distribution: Distribution) -> list[str]:
    root = ElementTree.fromstring(distribution_svg(distribution))  # noqa: S314 - our own picture
    return [found.text or "" for found in root.iter(f"{_SVG}text")]


def bars(distribution: Distribution) -> list[float]:
    root = ElementTree.fromstring(distribution_svg(distribution))  # noqa: S314 - our own picture
    _, *found = root.iter(f"{_SVG}rect")  # the first one is the background
    return [float(bar.get("width", "0")) for bar in found]


@given(st.dictionaries(st.text(max_size=40), st.integers(0, 10**12), min_size=1, max_size=30))
def test_any_labels_make_a_picture(labels: dict[str, int]) -> None:
    widths = bars(Distribution(labels=labels))
    assert len(widths) == min(20, len(labels))
    assert widths == sorted(widths, reverse=True)


def test_the_commonest_labels_come_first_and_the_rest_is_counted() -> None:
    shown = texts(Distribution(labels={f"label {number}": number for number in range(1, 31)}))
    assert shown[:2] == ["label 30", "30 (6.5%)"]
    assert shown[-1] == "and 10 other labels"


def test_long_labels_that_begin_alike_stay_apart() -> None:
    labels = {f"a category of the customers, number {number}": 1 for number in (1, 2)}
    shown = texts(Distribution(labels=labels))
    assert len(set(shown[::2])) == 2
    assert all(len(text) <= 22 for text in shown[::2])


def test_values_are_a_histogram_between_their_least_and_greatest() -> None:
    edges = tuple(float(number) for number in range(65))
    assert texts(Distribution(edges=edges, counts=(1,) * 64)) == ["0", "64"]
    assert texts(Distribution(edges=(3.5,) * 65, counts=(9,) + (0,) * 63)) == ["3.5"]
    assert len(bars(Distribution(edges=edges, counts=(0,) * 63 + (5,)))) == 64
