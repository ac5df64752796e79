"""Findings made by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.findings import Finding


def finding(status: Any = "failed", age_hours: float = 0.1, **fields: Any) -> Finding:
    made: dict[str, Any] = {
        "kind": "drift",
        "environment": "production",
        "subject": "iris",
        "version": "3",
        "status": status,
        "at": (datetime.now(UTC) - timedelta(hours=age_hours)).isoformat(),
        "valid_seconds": 3600.0,
        "summary": "3 of 4 columns have drifted",
    }
    return Finding(**made | fields)
