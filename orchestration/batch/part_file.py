"""A Parquet file that a part writes: equal rows give equal bytes."""

from typing import TYPE_CHECKING, Any, Self

from orchestration.batch.documents import PartFile
from orchestration.batch.storage_folder import Folder, NewFile

if TYPE_CHECKING:
    import pyarrow as pa

# A row group ends with the batch that reaches one of these: what is held in memory.
_GROUP_ROWS = 131_072
_GROUP_BYTES = 32 << 20


class PartWriter:
    """Batches go in, and after `close` the file is there; without one it never is, nor where no
    rows came. name: below the folder."""

    def __init__(self, folder: Folder, name: str, schema: "pa.Schema") -> None:
        self._folder, self._name, self._schema = folder, name, schema
        self._file: NewFile | None = None
        self._writer: Any = None
        self._held: list[pa.RecordBatch] = []
        self._held_rows = self._held_bytes = self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.discard()

    def write(self, batch: "pa.RecordBatch") -> None:
        """One batch of the schema."""
        if not batch.num_rows:
            return
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self._held_bytes += batch.nbytes
        if self._held_rows >= _GROUP_ROWS or self._held_bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        table = pa.Table.from_batches(self._held, self._schema)
        self._opened().write_table(table, row_group_size=max(table.num_rows, 1))
        self._rows += table.num_rows
        self._held, self._held_rows, self._held_bytes = [], 0, 0

    def _opened(self) -> Any:
        import pyarrow.parquet as pq

        if self._file is None:
            self._file = self._folder.create(self._name)
            self._writer = pq.ParquetWriter(
                self._file,
                self._schema,
                compression="zstd",  # half of snappy's size, for 2 % of a boosting's time
                use_dictionary=_repeated(self._schema),
                write_statistics=True,
            )
        return self._writer

    def close(self, *, empty: bool = False) -> PartFile | None:
        """What was written. empty: a file even if there are no rows."""
        if self._held or (empty and self._file is None):
            self._flush()
        if self._file is None:
            return None
        self._writer.close()
        self._file.commit()
        return PartFile(self._name, self._rows, self._file.size, self._file.sha256)


def _repeated(schema: "pa.Schema") -> list[str]:
    """Columns worth a dictionary: of numbers it costs more time than it saves space."""
    import pyarrow as pa

    return [
        field.name
        for field in schema
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
