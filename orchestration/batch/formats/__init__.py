"""The formats of an input: schema, pieces, rows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Of a file, what becomes a part; the fields are those of `documents.Part`."""

    start: int
    stop: int
    first_row: int
    rows: int


def runs(sizes: list[int], part_rows: int) -> list[Piece]:
    """Consecutive blocks (row groups, record batches) of together at most `part_rows` rows, or one
    block that has more; blocks without rows are no piece of their own."""
    pieces: list[Piece] = []
    start = first = rows = 0
    for number, size in enumerate(sizes):
        if rows and rows + size > part_rows:
            pieces.append(Piece(start, number, first, rows))
            start, first, rows = number, first + rows, 0
        rows += size
    return [*pieces, Piece(start, len(sizes), first, rows)] if rows else pieces
