"""Finding a request's lines in logs that others write, rotate and cut off meanwhile."""

import gzip
import re
import zlib
from collections.abc import Iterator
from datetime import datetime
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

_BLOCK_BYTES = 4 << 20
Line = TypeVar("Line", bound="RequestLine")


class RequestLine(msgspec.Struct, frozen=True, kw_only=True):
    """What every access log says of a request."""

    time: Annotated[datetime, msgspec.Meta(tz=True)]
    request_id: str
    status: int
    method: str | None = None
    path: str | None = None
    duration_ms: float | None = None


class GatewayLine(RequestLine, frozen=True, kw_only=True):
    """A line of the gateway's access log: see `_FIELDS` in deploy/gateway/listener.py."""

    client: str | None = None
    flags: str | None = None
    details: str | None = None
    environment: str | None = None
    server: str | None = None


class ServerLine(RequestLine, frozen=True, kw_only=True):
    """A line of a model server's access log: see bentos/model_server/access_log.py."""

    logger: str
    model: str = ""
    version: str = ""
    rows: int = 0
    caller: str = ""
    trace_id: str = ""


def log_files(folder: Path, name: str) -> list[Path]:
    """`<name>.log` and what was rotated away from it; a name is never a path."""
    return sorted(path for path in folder.glob("*.log*") if _name(path) == name)


def log_names(folder: Path) -> set[str]:
    """Whose logs there are."""
    return {_name(path) for path in folder.glob("*.log*")}


def _name(path: Path) -> str:
    """A server's name has no dot."""
    return path.name.partition(".log")[0]


def find_lines(files: list[Path], request_id: str, kind: type[Line]) -> list[Line]:
    """The request's lines, the oldest first; whatever is no such line is passed over.

    Raises OSError for a file that is there and cannot be read.
    """
    # The part that JSON never escapes finds the lines, reading them decides.
    needle = max(re.findall(r"[\w.:~-]+", request_id, re.ASCII), key=len, default="request_id")
    decoder = msgspec.json.Decoder(kind)
    found: dict[bytes, Line] = {}  # a line is in two files for a moment of the rotation
    for file in files:
        for raw in _lines_with(file, needle.encode()):
            try:
                line = decoder.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if line.request_id == request_id:
                found[raw] = line
    return sorted(found.values(), key=lambda line: line.time)


def _lines_with(file: Path, needle: bytes) -> Iterator[bytes]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            for block in _blocks(opened):
                yield from _lines_of(block, needle)
    except FileNotFoundError:  # rotated away since the folder was listed
        return
    except (EOFError, gzip.BadGzipFile, zlib.error):  # cut off: what came before it counts
        return


def _blocks(opened: BufferedIOBase) -> Iterator[bytes]:
    """Whole lines, some megabytes at a time. Read, not mapped: a log is cut while it is open."""
    rest = b""
    # read1 gives what there is: of an archive that is cut off, all up to the cut.
    while data := opened.read1(_BLOCK_BYTES):
        whole, newline, rest_of = (rest + data).rpartition(b"\n")
        yield whole + newline
        rest = rest_of
    yield rest


def _lines_of(block: bytes, needle: bytes) -> Iterator[bytes]:
    at = block.find(needle)
    while at >= 0:
        start = block.rfind(b"\n", 0, at) + 1
        end = block.find(b"\n", at)
        end = len(block) if end < 0 else end
        yield block[start:end].strip(b"\0\r ")
        at = block.find(needle, end)
