"""The input's columns against the contract, before a row is read."""

import pyarrow as pa
import pytest

from orchestration.batch.arrow_types import arrow_type
from orchestration.batch.columns import check_schema
from orchestration.batch.documents import ColumnType, FeatureJoin
from orchestration.batch.errors import InputError
from tests.bentos.model_server.models import IRIS, iris, mixed
from tests.orchestration.batch.plans import columns

IRIS_COLUMNS = tuple(ColumnType(name, "double") for name in IRIS)


def refusal(*schema: ColumnType, keys: tuple[str, ...] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        check_schema(iris().contract, schema, "parquet", keys, None)
    return str(caught.value)


def test_every_wrong_column_is_named_at_once() -> None:
    message = refusal(
        ColumnType("Sepal-Length", "double"),
        ColumnType("sepal_width", "string"),
        *[ColumnType("petal_length", "double")] * 2,
        ColumnType("scored_at", "date32[day]"),
    )
    assert message == (
        "the input does not fit the contract of iris: "
        "input sepal_length (a number) is missing (is column 'Sepal-Length' meant?); "
        "input petal_width (a number) is missing; column petal_length stands 2 times; "
        "input sepal_width takes a number, its column is string; "
        "key scored_at has the name of a column of the output: rename it, or name the keys"
    )


def test_keys_are_all_that_are_no_inputs_or_those_that_were_named() -> None:
    schema = (ColumnType("b", "string"), *IRIS_COLUMNS, ColumnType("a", "list<item: int8>"))
    contract = iris().contract
    assert check_schema(contract, schema, "parquet", None, None) == ("b", "a")
    assert check_schema(contract, schema, "parquet", ("a", "petal_width"), None) == (
        "a",
        "petal_width",
    )
    assert "key c is not a column" in refusal(*schema, keys=("c",))
    assert "key a is named 2 times" in refusal(*schema, keys=("a", "a"))


def test_no_more_than_twenty_are_named() -> None:
    message = refusal(*IRIS_COLUMNS, keys=tuple(f"k{i}" for i in range(30)))
    assert message.endswith("key k19 is not a column of the input; and 10 more")


def test_what_is_looked_up_need_not_be_there_but_its_entities_must() -> None:
    contract = mixed().contract
    provided = tuple(field.name for field in contract.inputs if field.name != "note")
    join = FeatureJoin("customers", ("customer_id",), provided, "at")
    there = [ColumnType("customer_id", "int64"), ColumnType("note", "string")]
    moment = ColumnType("at", "timestamp[us, tz=UTC]")
    assert check_schema(contract, [*there, moment], "parquet", None, join) == ("customer_id", "at")
    with pytest.raises(InputError, match="column at, by which features are looked up, is missing"):
        check_schema(contract, there, "parquet", None, join)


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.timestamp("us", "UTC"), pa.timestamp("ns", "America/New_York"), pa.timestamp("s")),
        *(pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"), pa.duration("us")),
        *(pa.decimal128(10, 2), pa.decimal256(50, -2), pa.decimal64(5, 1), pa.uuid(), pa.null()),
        *(pa.list_(pa.int64()), pa.list_(pa.float32(), 3), pa.large_list(pa.string())),
        pa.list_(pa.field("element", pa.struct([pa.field("a b", pa.int64(), nullable=False)]))),
        *(pa.map_(pa.string(), pa.list_(pa.int8())), pa.struct([]), pa.binary(16), pa.binary()),
        pa.struct([("a", pa.int64()), ("b", pa.dictionary(pa.int8(), pa.string()))]),
        *(pa.dictionary(pa.int32(), pa.decimal128(3, 1), ordered=True), pa.string_view()),
        *(pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.int8(), pa.uint64()),
    ],
    ids=str,
)
def test_types_are_read_back_from_their_names(kind: pa.DataType) -> None:
    assert arrow_type(str(kind)) == kind
    assert pa.RecordBatch.from_arrays([pa.nulls(0, kind)], ["a"]).schema.types == [kind]


def test_a_type_that_a_plan_cannot_carry_is_named_with_its_column() -> None:
    odd = str(pa.run_end_encoded(pa.int32(), pa.string()))
    assert f"column x: columns of type {odd} cannot be carried over" in refusal(
        *IRIS_COLUMNS, ColumnType("x", odd)
    )


@pytest.mark.parametrize("kind", [pa.struct([]), pa.month_day_nano_interval()], ids=str)
def test_a_type_that_the_result_s_files_cannot_have_is_named(kind: pa.DataType) -> None:
    said = f"column x: Parquet has no {kind}; drop or cast it"
    assert said in refusal(*IRIS_COLUMNS, ColumnType("x", str(kind)))


def test_a_csv_has_texts_for_everything() -> None:
    schema = columns(pa.schema([(name, pa.string()) for name in IRIS]))
    assert check_schema(iris().contract, schema, "csv", None, None) == ()


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_csv_with_another_separator_is_said_to_have_it(separator: str) -> None:
    schema = columns(pa.schema([(separator.join(IRIS), pa.string())]))
    with pytest.raises(InputError, match=r"separated by .*, which has to be a comma; input sepal"):
        check_schema(iris().contract, schema, "csv", None, None)
