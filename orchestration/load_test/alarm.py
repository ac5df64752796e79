"""Waking the loop to some 50 µs: the timers of asyncio and uvloop round to milliseconds.

Linux' timerfd by way of ctypes; Python has it from 3.13 on (`os.timerfd_create`).
"""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable

_ABSOLUTE = 1  # TFD_TIMER_ABSTIME


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class Alarm:
    """Calls `ring` once after each `set`; a new time replaces the one before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        self._check(self._fd)
        self._loop = loop
        self._ring = ring
        loop.add_reader(self._fd, self._wake)

    def _check(self, result: int) -> None:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"timerfd: {os.strerror(number)}")

    def set(self, at: int) -> None:
        """at: of `time.monotonic_ns()`; one that has passed rings at once."""
        seconds, nanoseconds = divmod(max(1, at), 1_000_000_000)
        value = _Timer(_Time(0, 0), _Time(seconds, nanoseconds))
        self._check(self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(value), None))

    def _wake(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set anew since it rang
        self._ring()

    def close(self) -> None:
        """Never ring again."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
