"""Features: `python -m benchmarks.features` prints how long look-ups through the feature
transformer take, and the materialization of a million rows, on SQLite and on Redis.

Everything is made for this run in a temporary folder. One client asks, one request after another,
over one connection: what is measured is latency, not throughput.
"""

import argparse
import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import quantiles
from tempfile import TemporaryDirectory

from benchmarks import report
from benchmarks.measure import Processes
from benchmarks.report import say
from deploy.processes import free_port
from tests.bentos.model_server.clients import Server, bentoml_serve, wait_for

_PRODUCTION = "feature_store.production.yaml"
_REGIONS = ("north", "south", "east", "west")
# (entities of a request, requests)
_SIZES = ((1, 1000), (100, 300), (1000, 30))
# Milliseconds of the median, by store and entities.
_TARGETS = {("SQLite", 1): 5.0, ("Redis", 1): 3.0, ("SQLite", 100): 15.0, ("Redis", 100): 15.0}
_MILLION, _MATERIALIZE_SECONDS = 1_000_000, 60.0


@dataclass(frozen=True)
class Profile:
    """A store's YAML file, and the variables by which it is found."""

    name: str
    store: str
    variables: dict[str, str]


@dataclass
class Measured:
    """latencies: milliseconds by entities of a request."""

    profile: str
    materialized: float
    rows: int
    ready: float = 0.0
    memory: int = 0
    latencies: dict[int, list[float]] = field(default_factory=dict)


def write_sources(folder: Path, rows: int) -> None:
    """So many customers, each with a row in both of the customers' views, an hour old."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(7)
    then = datetime.now(UTC) - timedelta(hours=1)
    times = {"event_timestamp": then, "created_timestamp": then}
    keys = pd.DataFrame({"customer_id": np.arange(rows)}).assign(**times)
    profile = keys.assign(
        age=random.integers(18, 90, rows),
        income=random.normal(40_000, 9_000, rows),
        credit_score=random.integers(300, 850, rows),
        account_age_days=random.integers(0, 4000, rows),
        is_premium=random.random(rows) < 0.2,
        region=random.choice(_REGIONS, rows),
        category_preference=random.choice(_REGIONS, rows),
    )
    activity = keys.assign(
        num_purchases=random.integers(0, 40, rows),
        avg_transaction=random.gamma(2, 30, rows),
        num_returns=random.integers(0, 5, rows),
    )
    for name, frame in (("customer_profile", profile), ("customer_activity", activity)):
        place = folder / "sources" / name
        place.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(place / "0.parquet", index=False)


def materialized(home: Path, profile: Profile) -> float:
    """Seconds for the view of seven features; the other one comes after it, unmeasured."""
    from feature_repo.materialize import materialize
    from feature_repo.store import open_store

    store = open_store(home, profile.store)
    end = datetime.now(UTC)
    seconds = []
    for view in ("customer_profile", "customer_activity"):
        started = time.perf_counter()
        materialize(store, view, end - timedelta(hours=3), end)
        seconds.append(time.perf_counter() - started)
    return seconds[0]


def asked(server: Server, entities: int, requests: int, customers: int) -> list[float]:
    """Milliseconds of each request, after as many again as a tenth of them to warm up."""
    random, taken = Random(entities), []  # noqa: S311 - which customers, no secret
    connection = http.client.HTTPConnection(
        server.client.base_url.host, server.client.base_url.port
    )
    for number in range(requests + requests // 10):
        rows = [{"customer_id": random.randrange(customers)} for _ in range(entities)]
        body = json.dumps({"service": "customer_churn", "entities": rows})
        started = time.perf_counter()
        connection.request("POST", "/features", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {text[:300]!r}")
        if number >= requests // 10:
            taken.append((time.perf_counter() - started) * 1000)
    connection.close()
    return taken


def measured(home: Path, profile: Profile, rows: int) -> Measured:
    """Materialize, build, serve, ask."""
    from feature_repo.apply import apply
    from orchestration.build_transformer import build_transformer
    from serving_config.features import Features

    os.environ.update(profile.variables)
    description = apply(home, profile.store)
    found = Measured(profile.name, materialized(home, profile), rows)
    say(f"{profile.name}: {rows} rows materialized in {found.materialized:.1f} s")
    bento = build_transformer(Features(store=profile.store), description, home)
    started = time.perf_counter()
    variables = profile.variables | {"SLIPWAY_ACCESS_LOG": "0"}
    with bentoml_serve(bento.tag, home, **variables) as server:
        wait_for(server, "/ready", 200)
        found.ready = time.perf_counter() - started
        for entities, requests in _SIZES:
            found.latencies[entities] = asked(server, entities, requests, rows)
        found.memory = Processes(server.master, home).memory_bytes()
    return found


@contextmanager
def profiles(home: Path) -> Iterator[list[Profile]]:
    """SQLite, and Redis where its server is installed."""
    base = {"SLIPWAY_FEATURES_HOME": str(home)}
    sqlite = Profile("SQLite", "feature_store.yaml", base)
    binary = shutil.which("redis-server")
    if binary is None:
        say("redis-server is not installed, so Redis is left out")
        yield [sqlite]
        return
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(home)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    redis = base | {
        "SLIPWAY_FEATURES_REDIS": f"127.0.0.1:{port}",
        "SLIPWAY_FEATURES_REGISTRY": f"sqlite:///{home / 'production.db'}",
    }
    try:
        yield [sqlite, Profile("Redis", _PRODUCTION, redis)]
    finally:
        server.terminate()
        server.wait()


def shown(results: list[Measured]) -> list[str]:
    """The tables."""
    look_ups = []
    for result in results:
        for entities, taken in result.latencies.items():
            cuts = quantiles(taken, n=100)
            target = _TARGETS.get((result.profile, entities))
            ratio = "" if target is None else f"{cuts[49] / target:.2f} of {target:g} ms"
            numbers = [f"{cuts[place - 1]:.2f} ms" for place in (50, 90, 99)]
            look_ups.append((result.profile, str(entities), *numbers, ratio))
    stores = [
        (
            result.profile,
            f"{result.materialized:.1f} s",
            f"{result.rows / result.materialized:,.0f} rows/s",
            f"{_MILLION / result.rows * result.materialized / _MATERIALIZE_SECONDS:.2f}",
            f"{result.ready:.1f} s",
            f"{result.memory / 2**20:.0f} MiB",
        )
        for result in results
    ]
    head = ("store", "entities", "p50", "p90", "p99", "p50 to target")
    places = ("store", f"{results[0].rows:,} rows materialized", "", "a million to 60 s")
    return [
        f"Ten features of two feature views over HTTP; {report.hardware()}.",
        "",
        *report.table(head, look_ups),
        "",
        *report.table((*places, "transformer ready", "its memory"), stores),
    ]


def main(arguments: list[str] | None = None) -> None:
    """The process's entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="customers")
    rows: int = parser.parse_args(arguments).rows
    with TemporaryDirectory(prefix="slipway-features-") as folder:
        home = Path(folder)
        say(f"writing {rows} customers")
        write_sources(home, rows)
        with profiles(home) as found:
            results = [measured(home, profile, rows) for profile in found]
    print("\n".join(shown(results)))


if __name__ == "__main__":
    main()
