"""A model on the features of customer_churn, their sources, and rows to look them up for."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from bentos.model_server.contract import Entity, FeatureSource, GraphInput, Input
from feature_repo.apply import apply
from feature_repo.home import features_home
from feature_repo.sources import read_below
from tests.bentos.model_server.models import Parts, certify, mixed
from tests.feature_repo.histories import NOW, activity, hours_ago, profile, write

ACTIVITY = "customer_activity"
# Its TTL is 48 hours.
LONG_AGO = 24 * 10.0
ROWS: list[tuple[int | None, datetime | None]] = [
    (1, NOW),  # 7
    (9, NOW),  # unknown to both views
    (1, hours_ago(10)),  # 2 by then
    (2, NOW),  # of activity too old
    (None, NOW),
    (1, None),
    (1, hours_ago(5)),  # 7, at that very moment
    (1, hours_ago(5) - timedelta(microseconds=1)),
]


@contextmanager
def feature_home(home: Path) -> Iterator[Path]:
    """Customer 1 bought 7 things 5 hours ago and 2 the day before, customer 2 something long ago;
    both are known for 60 hours."""
    apply(home)
    bought = [(1, hours_ago(30), 2), (1, hours_ago(5), 7), (2, hours_ago(LONG_AGO), 3)]
    write(home, ACTIVITY, activity(bought))
    write(home, "customer_profile", profile([1, 2], hours_ago(60)))
    try:
        yield home
    finally:
        read_below(features_home())


@cache
def model() -> Parts:
    """Age + income + purchases + is_premium; what the features of customer_churn add up to."""
    parts = mixed()
    names = {"visits": "num_purchases", "member": "is_premium"}

    def renamed(fields: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(names.get(field, field) for field in fields)

    contract = msgspec.structs.replace(
        parts.contract,
        inputs=tuple(
            Input(names.get(field.name, field.name), field.dtype) for field in parts.contract.inputs
        ),
        graph_inputs=tuple(
            GraphInput(item.name, item.dtype, renamed(item.columns), item.shape)
            for item in parts.contract.graph_inputs
        ),
        feature_source=FeatureSource(
            "customer_churn",
            (Entity("customer_id", "int64"),),
            ("age", "income", "num_purchases", "is_premium"),
        ),
        example={"age": 1, "income": 1.0, "num_purchases": 1, "is_premium": True, "note": ""},
    )
    return Parts(parts.onnx, contract, certify(parts.onnx, contract, [dict(contract.example)]))


def table(rows: list[tuple[int | None, datetime | None]]) -> pa.Table:
    return pa.table(
        {
            "row": list(range(len(rows))),
            "customer_id": pa.array([customer for customer, _ in rows], pa.int64()),
            "event_timestamp": pa.array([at for _, at in rows], pa.timestamp("us", "UTC")),
            "note": ["x"] * len(rows),
        }
    )
