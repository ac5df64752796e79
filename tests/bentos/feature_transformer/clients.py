"""The feature transformer in this process, over a real store that the tests write to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pandas as pd

from bentos.feature_transformer.app import application
from bentos.feature_transformer.lifecycle import Lifecycle
from bentos.feature_transformer.metrics import Metrics
from bentos.feature_transformer.settings import FeaturesConfig, Settings
from bentos.model_server import settings as model_server
from feature_repo.description import Description
from tests.bentos.feature_transformer import definitions
from tests.bentos.model_server.clients import JSON, LOOPBACK, TestClient, wait_for_it

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
Row = Mapping[str, Any]


class Clock:
    """A time that stands still until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Online:
    """An applied store. settings: of its online store."""

    folder: Path
    settings: dict[str, Any]
    store: Any = field(repr=False)

    def write(self, view: str, rows: list[Row], age: timedelta = timedelta(hours=1)) -> None:
        """age: of the rows' event timestamp, at NOW."""
        frame = pd.DataFrame(rows).assign(event_timestamp=NOW - age)
        self.store.write_to_online_store(view, frame)


@dataclass(frozen=True)
class App:
    client: Any
    lifecycle: Lifecycle
    clock: Clock

    def ask(self, service: str, entities: list[Row], **more: Any) -> httpx.Response:
        return self.post({"service": service, "entities": entities, **more})

    def post(self, body: str | bytes | Mapping[str, Any]) -> httpx.Response:
        content = msgspec.json.encode(body) if isinstance(body, Mapping) else body
        response: httpx.Response = self.client.post("/features", content=content, headers=JSON)
        return response

    def metric(self, line: str) -> float:
        """The value of one series, 0 where it is not there."""
        lines = (item.rpartition(" ") for item in self.client.get("/metrics").text.splitlines())
        return sum(float(value) for name, _, value in lines if name == line)


@contextmanager
def transformer(
    online: Online,
    config: FeaturesConfig | None = None,
    *,
    keys: Path | None = None,
    wait: bool = True,
) -> Iterator[App]:
    """wait: until it is ready, or refused."""
    path = online.folder / "features.json"
    path.write_bytes(msgspec.json.encode(config or FeaturesConfig()))

    def opened(_: Path, __: FeaturesConfig) -> tuple[Any, Description]:
        store = definitions.open_store(online.folder, online.settings)
        return store, definitions.description()

    clock = Clock()
    server = model_server.Settings(Path("unused"), "test:1", keys=keys)
    lifecycle = Lifecycle(Settings(server, path), Metrics(None), opened, clock)
    with TestClient(application(lifecycle), client=LOOPBACK) as client:
        if wait:
            wait_for_it(lambda: lifecycle.answers or lifecycle.refusal is not None)
        yield App(client, lifecycle, clock)
