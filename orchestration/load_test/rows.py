"""The rows that are sent: from a file, and as whole HTTP requests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestration.load_test.errors import LoadTestError

Row = Mapping[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Rows of a JSON array, or of JSON Lines: an object each, a value for each input."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadTestError(f"--input {path} cannot be read: {error}") from error
    rows = _array(path, text) if text.lstrip().startswith("[") else _lines(path, text)
    if not rows:
        raise LoadTestError(f"--input {path} has no rows")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise LoadTestError(
                f"--input {path}, row {number}: expected an object such as "
                f'{{"input": value, …}}, got {json.dumps(row)[:60]}'
            )
    return rows


def _array(path: Path, text: str) -> list[Any]:
    try:
        rows: list[Any] = json.loads(text)
    except ValueError as error:
        raise LoadTestError(f"--input {path} is not JSON: {error}") from error
    return rows


def _lines(path: Path, text: str) -> list[Any]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise LoadTestError(
                    f"--input {path}, line {number}: {error}; give a JSON array of objects, "
                    "or an object on each line"
                ) from error
    return found


def bodies(rows: Sequence[Row], size: int) -> tuple[str, list[bytes]]:
    """The route below the model, and enough bodies of `size` rows to send every row."""
    if size == 1:
        return "/predict", [_encode({"features": row}) for row in rows]
    starts = range(0, len(rows), size)
    batches = [[rows[(start + i) % len(rows)] for i in range(size)] for start in starts]
    return "/predict/batch", [_encode({"instances": batch}) for batch in batches]


def _encode(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def http_request(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A POST as it goes over the wire. headers: with Host."""
    lines = [
        f"POST {path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"content-length: {len(body)}",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
