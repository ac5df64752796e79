"""Small source files for the feature views."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
UTC_TIME = pa.timestamp("us", tz="UTC")


def hours_ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def activity(
    rows: Sequence[tuple[int, datetime, int | None]], created: Sequence[datetime] | None = None
) -> pa.Table:
    """Of customer, event timestamp and purchases; the other features follow from these."""
    times = [time for _, time, _ in rows]
    purchases = [number for _, _, number in rows]
    spent = [None if number is None else number / 2 for number in purchases]
    return pa.table(
        {
            "customer_id": pa.array([customer for customer, _, _ in rows], pa.int64()),
            "event_timestamp": pa.array(times, UTC_TIME),
            "created_timestamp": pa.array(created or times, UTC_TIME),
            "num_purchases": pa.array(purchases, pa.int64()),
            "avg_transaction": pa.array(spent, pa.float64()),
            "num_returns": pa.array(purchases, pa.int64()),
        }
    )


def profile(customers: Sequence[int], time: datetime, age: int = 40) -> pa.Table:
    times = pa.array([time] * len(customers), UTC_TIME)
    same: Mapping[str, Any] = {
        "age": age,
        "income": 30_000.0,
        "credit_score": 700,
        "account_age_days": 12,
        "is_premium": True,
        "region": "north",
        "category_preference": "home",
    }
    constant = {name: pa.array([value] * len(customers)) for name, value in same.items()}
    keys = {"customer_id": pa.array(customers, pa.int64())}
    return pa.table(keys | {"event_timestamp": times, "created_timestamp": times} | constant)


def senders(names: Sequence[str], time: datetime, messages: int = 5) -> pa.Table:
    times = pa.array([time] * len(names), UTC_TIME)
    numbers = pa.array([messages] * len(names), pa.int64())
    return pa.table(
        {
            "sender": pa.array(names),
            "event_timestamp": times,
            "created_timestamp": times,
            "sender_messages_7d": numbers,
            "sender_reports_7d": numbers,
            "sender_account_age_days": numbers,
        }
    )


def write(home: Path, source: str, table: pa.Table, name: str = "data") -> Path:
    file = home / "sources" / source / f"{name}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file
