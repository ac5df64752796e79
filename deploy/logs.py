"""Log files that processes append to, kept below a size."""

import shutil
import threading
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 10 << 20
# The gateway's log may grow by megabytes a second.
_EVERY_SECONDS = 5.0


def rotate(folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Move what a log holds beyond `max_bytes` to `<name>.log.1`, replacing an older one.

    The file is copied and truncated, because its process goes on appending to it; the lines
    written between the two are lost.
    """
    for log in folder.glob("*.log"):
        if log.stat().st_size > max_bytes:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            with log.open("r+b") as file:
                file.truncate()


def keep_logs_small(folder: Path) -> None:
    """Rotate every few seconds, for ever."""
    clock = threading.Event()
    while not clock.wait(_EVERY_SECONDS):
        with suppress(OSError):  # a full disk; the next look may find room
            rotate(folder)
