"""Rows through the writer, to the disk, and back."""

import hmac
import io
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bentos.prediction_log.cloud_events import Names, events_of
from bentos.prediction_log.masking import Mask
from bentos.prediction_log.records import Record, block
from bentos.prediction_log.segments import Block, frame, read_blocks

TEXT = st.text(max_size=8)
NUMBER = st.floats(allow_nan=False) | st.integers(-(2**63), 2**63 - 1)
VALUE = st.none() | st.booleans() | NUMBER | TEXT
SHARE = st.floats(0, 1)
OFFSET = 1.7e9


def record(width: int, classes: int) -> st.SearchStrategy[Record]:
    return st.tuples(
        TEXT,
        st.integers(0, 1000),
        st.floats(0, 1e6),
        st.floats(0, 100),
        st.sampled_from([200, 422, 499]),
        st.sampled_from(["client", "mirror", "probe"]),
        st.tuples(*[VALUE] * width),
        VALUE,
        st.tuples(*[st.none() | SHARE] * classes) if classes else st.none(),
        st.none() | TEXT,
        st.none() | TEXT,
    )


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, int, list[Record]]:
    width, classes = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    return width, classes, draw(st.lists(record(width, classes), min_size=1, max_size=8))


def by_row(found: Block) -> list[tuple[Any, ...]]:
    columns = (
        *(found.request_id, found.row, found.time, found.status, found.latency_us, found.source),
        *found.features,
        found.prediction,
        *found.probabilities,
        *(found.entities, found.lookups),
    )
    return list(zip(*columns, strict=True))


def expected(record: Record) -> tuple[Any, ...]:
    request_id, row, started, seconds, status, source, values, label, shares, *texts = record
    own = (request_id, row, int((started + OFFSET) * 1e6), status, int(seconds * 1e6), source)
    return (*own, *values, label, *(shares or ()), *texts)


@given(requests())
def test_every_row_comes_back_as_it_was(case: tuple[int, int, list[Record]]) -> None:
    width, classes, some = case
    mask = Mask([(f"f{i}", "float64") for i in range(width)])
    data = frame(block(some, mask, classes, OFFSET))
    (found,) = read_blocks(io.BytesIO(data))
    # MessagePack tells 1 from 1.0 and True, which Python calls equal.
    assert msgspec.json.encode(by_row(found)) == msgspec.json.encode(list(map(expected, some)))


KEY = bytes(range(32))


def test_what_is_never_logged_is_in_no_column_and_what_is_hashed_only_as_its_hash() -> None:
    mask = Mask(
        [("name", "string"), ("age", "int64"), ("income", "float64")],
        never=["name", "sender"],
        hashed=["age", "customer_id"],
        key=KEY,
    )
    assert mask.columns == ("age", "income")
    assert mask.dtypes == ("string", "float64")
    entities = '{"customer_id":17,"sender":"ann@example.org","region":"north"}'
    some: list[Record] = [
        ("r", 0, 0.0, 0.0, 200, "client", ("Ann", 41, 1.5), "x", None, entities, None),
        ("r", 1, 0.0, 0.0, 200, "client", ("Bob", None, 2.5), "y", None, None, None),
    ]
    data = frame(block(some, mask, 0, 0.0))
    for secret in (b"Ann", b"Bob", b"ann@example.org", b'customer_id":17'):
        assert secret not in data
    (found,) = read_blocks(io.BytesIO(data))
    hashed = found.features[0][0]
    assert len(hashed) == 64
    assert found.features == [[hashed, None], [1.5, 2.5]]
    assert msgspec.json.decode(found.entities[0] or "") == {
        "customer_id": mask.hash(17),
        "region": "north",
    }
    assert found.entities[1] is None
    # As anybody with the key computes it: HMAC-SHA-256 of the value's JSON, of a text's UTF-8.
    assert hashed == hmac.new(KEY, b"41", "sha256").hexdigest()
    assert mask.hash("Ann") == hmac.new(KEY, b"Ann", "sha256").hexdigest()


def test_an_entity_key_that_is_called_as_an_input_is_masked_too() -> None:
    inputs = [("sender", "string"), ("host", "string")]
    mask = Mask(inputs, never=["host"], hashed=["sender"], key=KEY)
    (found,) = mask.entities(['{"sender":"ann","host":"example.org"}'])
    assert msgspec.json.decode(found or "") == {"sender": mask.hash("ann")}


def test_the_parts_of_a_large_batch_are_cloud_events_of_their_own() -> None:
    names = Names("staging", "m", "1", ("age",), ())
    ids = set()
    for first in (0, 2):
        rows: list[Record] = [
            ("r", first + i, 0.0, 0.0, 200, "client", (1.0,), "x", None, None, None)
            for i in range(2)
        ]
        made = block(rows, Mask([("age", "float64")]), 0, 0.0)
        ids |= {(e.headers["ce-type"], e.headers["ce-id"]) for e in events_of(made, names)}
    assert {identity for _, identity in ids} == {"r", "r:2"}
    assert len(ids) == 4


def test_the_same_value_has_another_hash_under_another_key() -> None:
    one, other = (Mask([("x", "string")], hashed=["x"], key=key) for key in (KEY, bytes(32)))
    assert one.hash("a") == one.hash("a") != other.hash("a")
