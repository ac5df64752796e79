"""What is read is what was written: compacted, complete or still being written."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.prediction_log.segments import Block, frame
from deploy.home import Home
from deploy.predictions.compaction import compact, compact_labels
from deploy.predictions.labels import Label, append_labels
from deploy.predictions.reader import (
    labelled,
    read_labels,
    read_predictions,
    unmatched_labels,
)
from serving_config.predictions import Predictions
from serving_config.schema import Configuration
from tests.deploy.control.controls import SETTINGS
from tests.deploy.predictions.segments import NOON, block, header, living, micros, segment

CONFIGURATION = Configuration.model_validate(SETTINGS)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def read(home: Home, since: Any = None, until: Any = None, **options: Any) -> Any:
    return read_predictions(home, CONFIGURATION, "iris", "production", since, until, **options)


def ids(table: Any) -> list[str]:
    found: list[str] = table["request_id"].to_pylist()
    return found


def both_ways(home: Home, **options: Any) -> Any:
    """What is read is the same before and after compaction."""
    before = read(home, **options)
    compact(home, Predictions(), NOON)
    after = read(home, **options)
    assert before.equals(after)
    return after


_VALUES = {
    "float64": st.floats(allow_nan=False) | st.none(),
    "float32": st.floats(width=32, allow_nan=False) | st.none(),
    "int64": st.integers(-(2**63), 2**63 - 1) | st.none(),
    "int32": st.integers(-(2**31), 2**31 - 1) | st.none(),
    "bool": st.booleans() | st.none(),
    "string": st.text(st.characters(codec="utf-8"), max_size=20) | st.none(),
}
_MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


def _lists(element: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(element, min_size=count, max_size=count)


@st.composite
def _block(draw: st.DrawFn, dtypes: Sequence[str], labels: st.SearchStrategy[Any]) -> Block:
    count = draw(st.integers(1, 4))
    text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
    return Block(
        request_id=draw(_lists(text, count)),
        row=draw(_lists(st.integers(0, 1000), count)),
        time=draw(_lists(_MOMENTS.map(micros), count)),
        status=draw(_lists(st.sampled_from([200, 422, 503]), count)),
        latency_us=draw(_lists(st.integers(0, 10**7), count)),
        source=draw(_lists(st.sampled_from(["client", "mirror", "probe"]), count)),
        features=[draw(_lists(_VALUES[dtype], count)) for dtype in dtypes],
        prediction=draw(_lists(labels | st.none(), count)),
        probabilities=[draw(_lists(st.floats(0, 1) | st.none(), count)) for _ in range(2)],
        entities=draw(_lists(st.none() | text, count)),
        lookups=draw(_lists(st.none() | text, count)),
    )


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_value_comes_back_as_it_was_written(data: st.DataObject) -> None:
    dtypes = data.draw(st.lists(st.sampled_from(sorted(_VALUES)), max_size=4))
    regression = data.draw(st.booleans())
    labels = st.floats(allow_nan=False) if regression else st.sampled_from(["a", 1, True, 2.5])
    of = header(
        columns=tuple(f"c{number}" for number in range(len(dtypes))),
        dtypes=tuple(dtypes),
        regression=regression,
    )
    blocks = data.draw(st.lists(_block(dtypes, labels), min_size=1, max_size=3))
    with TemporaryDirectory() as folder:
        home = Home(Path(folder))
        segment(home, "0-1", *blocks, of=of)
        options: dict[str, Any] = {"sources": ("client", "mirror", "probe")}
        found = both_ways(home, **options).to_pylist()
    wanted = [row for item in blocks for row in _rows(item, len(dtypes), regression)]
    assert len(found) == len(wanted)
    assert sorted(map(_key, found)) == sorted(map(_key, wanted))
    times = [row["time"] for row in found]
    assert times == sorted(times)


def _rows(item: Block, columns: int, regression: bool) -> list[dict[str, Any]]:
    spelled = {"a": "a", 1: "1", 2.5: "2.5", None: None}
    return [
        {
            "request_id": item.request_id[at],
            "row": item.row[at],
            "time": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=item.time[at]),
            "status": item.status[at],
            "source": item.source[at],
            **{f"feature_c{number}": item.features[number][at] for number in range(columns)},
            "prediction": item.prediction[at]
            if regression
            else "true"
            if item.prediction[at] is True
            else spelled[item.prediction[at]],
            "probability_setosa": item.probabilities[0][at],
            "probability_virginica": item.probabilities[1][at],
            "entities": item.entities[at],
            "lookups": item.lookups[at],
        }
        for at in range(len(item.request_id))
    ]


def _key(row: dict[str, Any]) -> str:
    row = row | {"time": micros(row["time"])}
    left_out = ("label", "onnx_sha256", "latency_ms")
    return repr(sorted((name, value) for name, value in row.items() if name not in left_out))


def test_the_columns_are_those_of_the_docs(home: Home) -> None:
    segment(home, "0-1", block(["a"]))
    found = both_ways(home)
    assert [f"{field.name} {field.type}" for field in found.schema] == [
        "request_id string",
        "row int32",
        "time timestamp[us, tz=UTC]",
        "label string",
        "onnx_sha256 string",
        "status int16",
        "latency_ms float",
        "source string",
        "feature_width double",
        "feature_colour string",
        "prediction string",
        "probability_setosa double",
        "probability_virginica double",
        "entities string",
        "lookups string",
    ]
    assert found["latency_ms"].to_pylist() == [1.5]


def test_a_window_includes_its_beginning_and_not_its_end_in_any_zone(home: Home) -> None:
    midnight = NOON.replace(hour=0) + DAY
    for number in range(-2, 3):
        segment(home, f"0-{number}", block([str(number)], midnight + number * SECOND))
    there = timezone(timedelta(hours=-11))
    window = {"since": (midnight - SECOND).astimezone(there), "until": midnight + SECOND}
    assert ids(both_ways(home, **window)) == ["-1", "0"]
    assert ids(read(home, since=midnight)) == ["0", "1", "2"]
    assert ids(read(home, until=midnight)) == ["-2", "-1"]
    with pytest.raises(ValueError, match="no time zone"):
        read(home, since=datetime(2026, 11, 20))


def test_only_clients_answers_unless_others_are_asked_for(home: Home) -> None:
    segment(home, "0-1", block(["a", "b", "c"], source=["client", "mirror", "probe"]))
    assert ids(both_ways(home)) == ["a"]
    assert ids(read(home, sources=("mirror", "probe"))) == ["b", "c"]
    assert ids(read(home, status=422)) == []
    assert ids(read(home, label="2")) == []


def test_versions_with_other_inputs_are_united_by_name(home: Home) -> None:
    segment(home, "0-1", block(["a"]))
    columns, dtypes = ("width", "age", "colour"), ("int64", "int32", "int64")
    new = header(label="2", columns=columns, dtypes=dtypes, classes=("setosa", "other"))
    segment(home, "0-1", block(["b"], NOON + SECOND, features=[[7], [3], [1]]), of=new)
    older = header(label="0", columns=("flag",), dtypes=("bool",), regression=True, classes=())
    value = block(["r"], NOON - SECOND, features=[[True]], prediction=[2.5], probabilities=[])
    segment(home, "0-1", value, of=older)
    found = both_ways(home)
    assert found.select(["feature_width", "feature_age", "feature_colour"]).to_pylist() == [
        {"feature_width": None, "feature_age": None, "feature_colour": None},
        {"feature_width": 0.0, "feature_age": None, "feature_colour": "red"},
        {"feature_width": 7.0, "feature_age": 3, "feature_colour": "1"},
    ]
    assert found["prediction"].to_pylist() == ["2.5", "setosa", "setosa"]
    assert found["probability_other"].to_pylist() == [None, None, 0.25]
    names = found.column_names
    assert names[-2:] == ["entities", "lookups"]
    assert names.index("feature_age") < names.index("prediction")


def test_an_integer_that_float64_cannot_hold_is_rounded_beside_a_version_with_floats(
    home: Home,
) -> None:
    exact = header(columns=("width",), dtypes=("int64",))
    segment(home, "0-1", block(["a"], features=[[2**53 + 1]]), of=exact)
    segment(home, "0-1", block(["b"], NOON + SECOND), of=header(label="2"))
    assert both_ways(home)["feature_width"].to_pylist() == [2.0**53, 0.0]


def test_a_share_of_the_rows_is_drawn_from_all_of_the_window(home: Home) -> None:
    for number in range(4):
        names = [f"{number}-{i}" for i in range(1000)]
        segment(home, f"0-{number}", block(names, NOON + number * HOUR))
    for _ in range(2):
        found = ids(read(home, share=0.1))
        assert 300 < len(found) < 500
        assert {name[0] for name in found} == {"0", "1", "2", "3"}
        assert found == ids(read(home, share=0.1))
        compact(home, Predictions(), NOON)


def test_only_the_columns_that_are_asked_for(home: Home) -> None:
    segment(home, "0-1", block(["a"]))
    for _ in range(2):
        found = read(home, columns=["prediction", "feature_width", "feature_gone"])
        assert found.column_names == ["feature_width", "prediction"]
        compact(home, Predictions(), NOON)


def test_no_log_is_an_empty_table_with_the_columns_that_all_have(home: Home) -> None:
    found = read(home)
    assert found.num_rows == 0
    assert found.schema.field("time").type == pa.timestamp("us", "UTC")
    assert read(home, columns=["prediction"]).column_names == ["prediction"]
    assert labelled(home, CONFIGURATION, "iris", "production", None, None).num_rows == 0


def test_what_a_living_writer_has_written_is_there_at_once(home: Home) -> None:
    with living(home, "0-1") as file:
        assert ids(read(home)) == []
        file.write(frame(block(["a"])))
        assert ids(read(home)) == ["a"]
        file.write(frame(block(["b"], NOON + SECOND))[:-4])
        assert ids(read(home)) == ["a"]


def test_reading_whole_days_opens_no_other_days_files(home: Home) -> None:
    for number in range(3):
        segment(home, f"0-{number}", block([str(number)], NOON + number * DAY))
    compact(home, Predictions(), NOON)
    for day in ("2026-11-20", "2026-11-22"):
        for path in (home.predictions / "parquet").rglob(f"day={day}/*.parquet"):
            path.write_bytes(b"not to be read")
    middle = NOON.replace(hour=0) + DAY
    assert ids(read(home, since=middle, until=middle + DAY - SECOND)) == ["1"]


def send(home: Home, *labels: Label, at: datetime = NOON + HOUR) -> None:
    append_labels(home, "iris", "production", labels, "ann", at)


def joined(home: Home, **options: Any) -> dict[str, Any]:
    window: dict[str, Any] = {"since": NOON - HOUR, "until": NOON + HOUR} | options
    found = labelled(home, CONFIGURATION, "iris", "production", **window)
    return dict(zip(ids(found), found["truth"].to_pylist(), strict=True))


def test_the_latest_label_of_a_row_counts_wherever_it_lies(home: Home) -> None:
    segment(home, "0-1", block(["a", "b", "b", "c"], row=[0, 0, 1, 0]))
    send(home, Label("a", "virginica"), Label("b", "x", row=1), Label("z", "setosa"))
    compact_labels(home, NOON)
    send(home, Label("a", "setosa"), at=NOON + 2 * HOUR)
    assert joined(home) == {"a": "setosa", "b": "x"}
    send(home, Label("a", "early"), at=NOON - HOUR)
    compact(home, Predictions(), NOON)
    compact_labels(home, NOON)
    assert joined(home) == {"a": "setosa", "b": "x"}
    found = labelled(home, CONFIGURATION, "iris", "production", None, None, ["feature_width"])
    assert found.column_names == ["feature_width", "truth", "labelled_at"]
    assert found["labelled_at"].to_pylist() == [NOON + 2 * HOUR, NOON + HOUR]


def test_a_label_may_come_before_its_answer(home: Home) -> None:
    send(home, Label("a", "setosa"), at=NOON - 2 * HOUR)
    assert joined(home) == {}
    segment(home, "0-1", block(["a"]))
    assert joined(home) == {"a": "setosa"}


def test_refusals_and_copies_have_no_truth(home: Home) -> None:
    refused = block(["a"], status=[422], features=[[None], [None]], prediction=[None])
    segment(home, "0-1", refused, block(["b"], source=["mirror"]))
    send(home, Label("a", "setosa"), Label("b", "setosa"))
    assert joined(home) == {}
    assert joined(home, sources=("mirror",)) == {"b": "setosa"}


def test_labels_without_an_answer_are_counted(home: Home) -> None:
    segment(home, "0-1", block(["a"]))
    send(home, Label("a", "setosa"), Label("a", "setosa", row=1), Label("z", "setosa"))
    arguments = (home, CONFIGURATION, "iris", "production")
    assert unmatched_labels(*arguments, None, None) == 2
    assert unmatched_labels(*arguments, NOON + 2 * HOUR, None) == 0
    segment(home, "0-2", block(["z"]))
    compact(home, Predictions(), NOON)
    assert unmatched_labels(*arguments, None, None) == 1


def test_the_truth_of_a_regression_is_a_number(home: Home) -> None:
    of = header(columns=(), dtypes=(), regression=True, classes=())
    values = block(["a", "b"], features=[], prediction=[1.5, 2.0], probabilities=[])
    segment(home, "0-1", values, of=of)
    send(home, Label("a", 1), Label("b", "unknown"))
    assert joined(home) == {"a": 1.0}


def test_classes_that_are_numbers_match_their_labels_however_they_are_sent(home: Home) -> None:
    of = header(classes=("0", "1"))
    segment(home, "0-1", block(["a", "b", "c"], prediction=[0, 1, 1]), of=of)
    send(home, Label("a", 0), Label("b", "1"), Label("c", 0))
    found = labelled(home, CONFIGURATION, "iris", "production", None, None)
    assert found["prediction"].to_pylist() == ["0", "1", "1"]
    assert found["truth"].to_pylist() == ["0", "1", "0"]


def test_labels_of_several_writers_at_the_same_moment_are_all_kept(home: Home) -> None:
    for number in range(20):
        send(home, Label(str(number), math.pi))
    assert read_labels(home, "iris", "production").num_rows == 20
