"""Plans over files that a test wrote, and their rows read back part by part."""

from dataclasses import dataclass

import pyarrow as pa

from orchestration.batch.documents import ModelIdentity, Plan
from orchestration.batch.sources import find_files, make_parts, read_part, read_schema


def plan_of(url: str, part_rows: int = 1000, batch_rows: int = 100) -> Plan:
    """Of a job whose input is `url`; the model is none."""
    format_, files = find_files(url)
    schema = read_schema(format_, files)
    files, parts = make_parts(format_, files, part_rows)
    return Plan(
        model=ModelIdentity("m", "1", "", "", "", "", ""),
        input=url,
        format=format_,
        files=files,
        schema=schema,
        keys=(),
        parts=parts,
        part_rows=part_rows,
        batch_rows=batch_rows,
        scored_at="2026-01-01T00:00:00Z",
    )


@dataclass(frozen=True)
class Row:
    """source: the file and the number of the row in it."""

    source: tuple[str, int]
    values: dict[str, object]


def rows_of(plan: Plan) -> list[Row]:
    """All rows, part by part; what every part has to be is asserted on the way."""
    rows = []
    for part in plan.parts:
        batches = list(read_part(plan, part))
        assert [batch.num_rows for batch in batches[:-1]] == [plan.batch_rows] * (len(batches) - 1)
        assert 0 < batches[-1].num_rows <= plan.batch_rows
        values = pa.Table.from_batches(batches).to_pylist()
        assert len(values) == part.rows
        path = plan.files[part.file].path
        rows += [Row((path, part.first_row + n), value) for n, value in enumerate(values)]
    return rows
