"""What the control process does each second, beside answering the API."""

import logging
import threading
from collections.abc import Callable, Sequence

from deploy.events import LedgerError
from deploy.gateway.envoy import GatewayError
from deploy.supervision import SupervisorError
from deploy.targets.base import TargetError

SECONDS = 1.0
# What a part of the platform that is away raises: the next look may find it back.
_EXPECTED = (LedgerError, GatewayError, SupervisorError, TargetError)
logger = logging.getLogger("slipway.control")


class Loop:
    """A thread that does `ticks` one after the other, each second, until `stop`. died: called
    where one raises what is not expected; then no tick follows."""

    def __init__(
        self, name: str, ticks: Sequence[Callable[[], None]], died: Callable[[], None]
    ) -> None:
        self._ticks, self._died = ticks, died
        self._stopping = threading.Event()
        self._said: dict[int, str] = {}
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, with a first look at once."""
        self._thread.start()

    def stop(self) -> None:
        """No tick begins from now on; one that has begun is not waited for."""
        self._stopping.set()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for number, tick in enumerate(self._ticks):
                    self._do(number, tick)
                self._stopping.wait(SECONDS)
        except BaseException:
            logger.exception("%s has died", self._thread.name)
            self._died()

    def _do(self, number: int, tick: Callable[[], None]) -> None:
        try:
            tick()
        except _EXPECTED as error:
            said = str(error)
        else:
            said = ""
        if said and said != self._said.get(number):  # once, not each second
            logger.warning("%s: %s", self._thread.name, said)
        self._said[number] = said
