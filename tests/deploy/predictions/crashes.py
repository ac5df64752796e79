"""A process that dies before a chosen file operation: from then on nothing it tries happens."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_EVENTS = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate"}


class Crash(BaseException):
    """The process is dead."""


@dataclass
class _Crashing:
    at: int | Callable[[str, str], bool]
    reached: bool = False
    log: list[str] = field(default_factory=list)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & {*"wxa+"}
        if not (event in _EVENTS or writes):
            return
        name = str(arguments[0])
        reached = self.at(event, name) if callable(self.at) else len(self.log) >= self.at
        self.log.append(f"{event} {arguments}")
        if self.reached or reached:
            self.reached = True
            raise Crash(self.log[-1])


_current: list[_Crashing] = []
_hooked: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    for crash in _current:
        crash.hook(event, arguments)


@contextmanager
def crash_at(at: int | Callable[[str, str], bool]) -> Iterator[_Crashing]:
    """at: the number of the operation that does not happen, or which one it is."""
    if not _hooked:  # an audit hook cannot be taken away again
        sys.addaudithook(_hook)
        _hooked.append(True)
    crash = _Crashing(at)
    _current.append(crash)
    try:
        yield crash
    finally:
        _current.remove(crash)
