"""Work folders that harm the worker that writes to them, at a receipt; actors import them."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestration.batch.documents import Receipt
from orchestration.batch.work import Work


@dataclass(frozen=True)
class Deadly(Work):
    """The worker dies before a receipt, `deaths` times; each leaves a file in marks."""

    marks: str = ""
    deaths: int = 1

    def write_receipt(self, receipt: Receipt) -> None:
        if _marked(self.marks, self.deaths):
            os.kill(os.getpid(), signal.SIGKILL)
        super().write_receipt(receipt)


@dataclass(frozen=True)
class Stuck(Work):
    """So many parts have a receipt, whichever comes first, and no more: marks counts them."""

    marks: str = ""
    parts: int = 1

    def write_receipt(self, receipt: Receipt) -> None:
        while not _marked(self.marks, self.parts):
            time.sleep(60)
        super().write_receipt(receipt)


def _marked(folder: str, most: int) -> bool:
    """Whether this is one of the first, of all processes."""
    os.makedirs(folder, exist_ok=True)
    for number in range(most):
        with suppress(FileExistsError):
            Path(folder, str(number)).touch(exist_ok=False)
            return True
    return False
