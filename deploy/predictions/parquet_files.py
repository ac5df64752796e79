"""The Parquet files that one plan writes."""

from datetime import date
from types import TracebackType
from typing import Any, Self

from bentos.prediction_log.segments import Header
from deploy.predictions.store import NewFile, Store
from deploy.predictions.tables import by_day

# Rows of a row group: what a reader can leave out by its times.
_GROUP_ROWS = 1 << 17
# Few values that repeat; the rest would only be counted in vain.
_DICTIONARIES = [
    "row",
    "label",
    "onnx_sha256",
    "status",
    "source",
    "prediction",
    "lookups",
    "actor",
]


def group_of(header: Header) -> tuple[Any, ...]:
    """What the rows of one file have in common: the model, the environment and the columns."""
    return (
        header.environment,
        header.model,
        header.columns,
        header.dtypes,
        header.regression,
        header.classes,
    )


class _DayFile:
    """One file, row group by row group."""

    def __init__(self, new: NewFile, schema: Any) -> None:
        import pyarrow.parquet as pq

        names = [name for name in _DICTIONARIES if name in schema.names]
        self.new = new
        self._writer = pq.ParquetWriter(
            new.file, schema, compression="zstd", compression_level=1, use_dictionary=names
        )
        self._waiting: list[Any] = []
        self._rows = 0

    def write(self, table: Any) -> None:
        self._waiting.append(table)
        self._rows += table.num_rows
        if self._rows >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=_GROUP_ROWS)
            self._waiting, self._rows = [], 0

    def publish(self) -> None:
        self._flush()
        self._writer.close()
        self.new.publish()

    def abandon(self) -> None:
        self._writer.close()
        self.new.abandon()


class ParquetFiles:
    """Written in the order of their groups; published when the block ends without an error.

    The same tables in the same order give the same names: a plan that is done again overwrites
    what it wrote before.
    """

    def __init__(self, store: Store, plan: str) -> None:
        self._store, self._plan = store, plan
        self._open: dict[date, _DayFile] = {}
        self._group: tuple[Any, ...] | None = None
        self._number = -1
        self.files: list[str] = []
        self.rows = 0

    def write(self, header: Header, table: Any) -> None:
        """Rows of a segment."""
        if (group := group_of(header)) != self._group:
            self._publish()
            self._group = group
            self._number += 1
        for day, part in by_day(table):
            if day not in self._open:
                name = f"{self._plan}-{self._number}.parquet"
                new = self._store.create(
                    self._store.path(header.model, header.environment, day, name)
                )
                self._open[day] = _DayFile(new, table.schema)
            self._open[day].write(part)
        self.rows += table.num_rows

    def _publish(self) -> None:
        while self._open:
            day = next(iter(self._open))
            self._open[day].publish()
            self.files.append(self._open.pop(day).new.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            self._publish()
        for file in self._open.values():
            file.abandon()
