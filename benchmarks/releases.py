"""Releases, splits and rollbacks under full load: `python -m benchmarks.releases` writes its
section of docs/benchmarks.md.

Everything is started for this run on free ports and ended after it. The load is h2load on 64
connections through the gateway; a second client asks every few milliseconds which version answers.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks import load, report
from benchmarks.report import say
from tests.end_to_end.harness import SETOSA, Checkout, configure, wait_for

_CONNECTIONS, _SECONDS = 64, 5
_SETTINGS = """\
promotion: manual
training: orchestration.examples.iris:train
release:
  production: {{policy: {policy}, bake_seconds: 600}}
"""


@dataclass
class Load:
    """What the load counted."""

    requests: int = 0
    failed: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def run(self, target: load.Target) -> None:
        while not self.done.is_set():
            counted = load.closed(target, _CONNECTIONS, _SECONDS)
            self.requests += counted.requests
            self.failed += counted.failed


@contextmanager
def full_load(checkout: Checkout) -> Iterator[Load]:
    """64 connections, as fast as they go."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_text(json.dumps({"features": SETOSA}))
        headers = {"content-type": "application/json", "X-Environment": "production"}
        url = f"{checkout.url('gateway')}/models/iris/predict"
        counted = Load()
        thread = threading.Thread(target=counted.run, args=(load.Target(url, body, headers),))
        thread.start()
        try:
            yield counted
        finally:
            counted.done.set()
            thread.join()


def visible(checkout: Checkout, version: str, change: Callable[[], object]) -> tuple[float, float]:
    """Seconds from the change's start until it returns, and until `version` answers first."""
    seen: list[float] = []
    stop = threading.Event()
    url = f"{checkout.url('gateway')}/models/iris/predict"

    def watch() -> None:
        with httpx.Client(headers={"X-Environment": "production"}, timeout=30) as client:
            while not stop.is_set():
                answer = client.post(url, json={"features": SETOSA})
                if answer.headers.get("X-Model-Version") == version:
                    seen.append(time.perf_counter())
                    return
                time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    started = time.perf_counter()
    watcher.start()
    try:
        change()
        returned = time.perf_counter() - started
        watcher.join(30)
    finally:
        stop.set()
        watcher.join()
    return returned, seen[0] - started


def two_versions(checkout: Checkout) -> None:
    """iris 1 and 2, both proved; 2 in production."""
    configure(checkout, "iris", _SETTINGS.format(policy="direct"))
    for version in ("1", "2"):
        checkout.must("train", "iris")
        wait_for(
            lambda v=version: any(
                run.status == "SUCCESS" for run in checkout.dagster.runs("iris_to_staging", v)
            ),
            f"iris {version} in staging",
        )
        checkout.must("promote", "iris", "--version", version)
        say(f"iris {version} is in production")


def row(what: str, taken: list[tuple[float, float]], target: str) -> tuple[str, ...]:
    """Medians and maxima of (returned, visible)."""
    seen = [visible for _, visible in taken]
    back = [returned for returned, _ in taken]
    return (
        what,
        str(len(taken)),
        f"{statistics.median(seen):.2f} s",
        f"{max(seen):.2f} s",
        f"{statistics.median(back):.2f} s",
        target,
    )


def releases(checkout: Checkout, count: int) -> list[tuple[float, float]]:
    """`slipway promote`, back and forth, all traffic at once."""
    taken = []
    for number in range(count):
        version = "12"[number % 2]
        command = ("promote", "iris", "--version", version, "--policy", "direct")
        taken.append(visible(checkout, version, lambda c=command: checkout.must(*c)))
        say(f"release {number + 1} of {count}: {taken[-1][1]:.1f} s")
    return taken


def rollbacks(checkout: Checkout, count: int, policy: str) -> list[tuple[float, float]]:
    """`slipway rollback` from version 1 to 2, which is resident after blue_green alone."""
    checkout.must("promote", "iris", "--version", "2", "--policy", "direct")
    checkout.must("split", "iris", "2=100")  # ends the bake time, in which nothing else may come
    taken = []
    for _ in range(count):
        checkout.must("promote", "iris", "--version", "1", "--policy", policy)
        taken.append(visible(checkout, "2", lambda: checkout.must("rollback", "iris")))
    return taken


def splits(checkout: Checkout, count: int) -> list[tuple[float, float]]:
    """`slipway split` between two resident versions."""
    live = json.loads(checkout.must("split", "iris", "--json"))["live"]
    other = "2" if live[0]["version"] == "1" else "1"
    checkout.must("load", "iris", "--version", other)
    taken = []
    for number in range(count):
        mine, its = ("1", "2") if (number % 2 == 0) == (other == "1") else ("2", "1")
        command = ("split", "iris", f"{mine}=100", f"{its}=0")
        taken.append(visible(checkout, mine, lambda c=command: checkout.must(*c)))
    return taken


def measure(checkout: Checkout, count: int) -> list[str]:
    """The section's lines."""
    checkout.must("up", "--detach")
    two_versions(checkout)
    rows = []
    with full_load(checkout) as counted:
        rows.append(row("release of a built version, `direct`", releases(checkout, count), "10 s"))
        under_releases = (counted.requests, counted.failed)
        few = max(2, count // 4)
        taken = rollbacks(checkout, few, "blue_green")
        rows.append(row("rollback to a resident version", taken, "2 s"))
        rows.append(row("rollback to one that left", rollbacks(checkout, few, "direct"), "10 s"))
        rows.append(row("split changed", splits(checkout, count), "1 s"))
    idle = [
        row("the same release, no load", releases(checkout, few), "10 s"),
        row("the same split, no load", splits(checkout, count), "1 s"),
    ]
    head = ("what", "times", "visible, median", "at most", "command returns, median", "target")
    return [
        f"`python -m benchmarks.releases` on {report.hardware()}; load average "
        f"{os.getloadavg()[2]:.1f}. From the start of the command, Python's own included, until "
        "the version answers through the gateway.",
        "",
        *report.table(head, [*rows, *idle]),
        "",
        f"Under full load ({_CONNECTIONS} connections): {under_releases[0]:,} requests in "
        f"{count} releases, {under_releases[1]} failed; {counted.requests:,} in all of it, "
        f"{counted.failed} failed.",
    ]


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.releases", description=__doc__)
    parser.add_argument("--releases", type=int, default=20)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    wanted = parser.parse_args()
    if missing := load.missing_tool():
        parser.exit(1, f"{missing}\n")
    checkout = Checkout.make()
    try:
        lines = measure(checkout, wanted.releases)
    finally:
        checkout.slipway("down")
        checkout.close()
    if wanted.dry:
        print("\n".join(lines))
    else:
        report.write("Releases", lines)


if __name__ == "__main__":
    main()
