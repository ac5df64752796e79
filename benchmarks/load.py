"""Load from h2load, and exact percentiles from its log of every request.

Closed: each connection sends its next request when it has its answer. Open: requests are sent at a
rate whatever the answers do, as long as a connection is free; latency counts from the sending.
"""

import shutil
import subprocess
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_GRACE = 2


class LoadError(RuntimeError):
    """The load did not reach the server."""


@dataclass(frozen=True)
class Target:
    """What is sent, again and again. url: with path; headers include the content type."""

    url: str
    body: Path
    headers: dict[str, str]


@dataclass(frozen=True)
class Closed:
    """failed: requests that were not answered with 200."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int

    @property
    def throughput(self) -> float:
        """Good answers a second."""
        return max(0, self.requests - self.failed) / self.seconds


@dataclass(frozen=True)
class Open:
    """statuses: how many requests got which, -1 for none. Percentiles: of the good answers, and
    of the refused ones (429, 503); nan where there are none.

    sent, goodput: requests and good answers a second, while the load lasted. Requests that were
    still waiting two seconds after it are not counted at all.
    """

    offered: float
    sent: float
    goodput: float
    statuses: Counter[int]
    p50_ms: float
    p99_ms: float
    refused_p99_ms: float

    @property
    def failed(self) -> int:
        """Requests that got neither a good answer nor an orderly refusal."""
        return self.statuses.total() - sum(self.statuses[status] for status in (200, 429, 503))

    @property
    def refused(self) -> int:
        """Requests that got 429 or 503."""
        return self.statuses[429] + self.statuses[503]


def missing_tool() -> str | None:
    """What is to be installed, as a sentence."""
    if shutil.which("h2load") is None:
        return "h2load is not installed: apt-get install nghttp2-client"
    return None


def _rows(log: Path) -> npt.NDArray[np.int64]:
    """h2load's log: start in µs since the epoch, status, µs until the end of the answer."""
    rows = np.loadtxt(log, dtype=np.int64, ndmin=2)
    if not rows.size:
        raise LoadError("no request was answered, or even refused")
    return rows


def _h2load(target: Target, log: Path, *arguments: str) -> list[str]:
    headers = [f"-H{name}: {value}" for name, value in target.headers.items()]
    options = ["--h1", "-d", str(target.body), *headers, f"--log-file={log}", *arguments]
    return ["h2load", *options, target.url]


def closed(target: Target, connections: int, seconds: int) -> Closed:
    """As fast as the connections go; one thread, so that a core is left."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests"
        command = _h2load(target, log, "-c", str(connections), "-D", str(seconds))
        subprocess.run(command, capture_output=True, check=True)
        _, status, took = _rows(log).T
    p50, p99 = np.percentile(took, [50, 99]) / 1000
    return Closed(len(took), seconds, float(p50), float(p99), int((status != 200).sum()))


def open_loop(target: Target, connections: int, rate: float, seconds: float) -> Open:
    """rate: requests a second in all, spread evenly over the connections and in time."""
    each = max(1, round(rate * seconds / connections))
    # Without a pace of their own all connections would start, and so send, at the same moment.
    per_millisecond = max(1, round(rate / 1000))
    period = max(1, round(1000 * per_millisecond / rate))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests"
        command = _h2load(
            target,
            log,
            *("-c", str(connections), "-n", str(each * connections)),
            *("--rps", f"{each / seconds:g}"),
            *("-r", str(min(connections, per_millisecond)), f"--rate-period={period}ms"),
        )
        # What could not be sent in time would be sent later: then the load is over.
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, check=True, timeout=seconds + _GRACE)
        rows = _rows(log)
    return summary(rows, each * connections / seconds, seconds)


def summary(rows: npt.NDArray[np.int64], offered: float, seconds: float) -> Open:
    """Figures of h2load's log. rows: start in µs since the epoch, status, µs until the answer."""
    begun, status, took = rows.T
    good = status == 200
    refused = (status == 429) | (status == 503)
    # Rates are of the time after the connections have been made.
    since, until = (begun.min() + int(at * 1e6) for at in (min(1, seconds / 4), seconds))
    sent = (begun > since) & (begun <= until)
    answered = good & (begun + took > since) & (begun + took <= until)
    length = (until - since) / 1e6

    def percentile(which: npt.NDArray[np.bool_], share: float) -> float:
        return float(np.percentile(took[which], share)) / 1000 if which.any() else float("nan")

    return Open(
        offered=offered,
        sent=float(sent.sum()) / length,
        goodput=float(answered.sum()) / length,
        statuses=Counter(status.tolist()),
        p50_ms=percentile(good, 50),
        p99_ms=percentile(good, 99),
        refused_p99_ms=percentile(refused, 99),
    )
