"""The parts on a Ray cluster, or on a Ray of this machine."""

import importlib.util
import os
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bentos.model_server.contract import Contract
from orchestration.batch.documents import Part, Plan
from orchestration.batch.engines.base import Done
from orchestration.batch.engines.ray_messages import Job, Order
from orchestration.batch.engines.ray_process import started
from orchestration.batch.errors import EngineError
from orchestration.batch.work import Work
from serving_config.batch import BatchLimits


class RayEngine:
    """At RAY_ADDRESS, or on a Ray of its own for the time of the job. Only the numbers of parts
    and their receipts go through Ray: its actors read and write the files themselves."""

    def __init__(self, limits: BatchLimits) -> None:
        """EngineError where Ray is not installed."""
        if importlib.util.find_spec("ray") is None:
            raise EngineError(
                "Ray is not installed: install slipway with the extra ray "
                "(.venv/bin/uv pip install -e '.[ray]'), or use the engine local"
            )
        self.limits = limits

    def run(
        self,
        plan: Plan,
        parts: Sequence[Part],
        contract: Contract,
        model: bytes,
        work: Work,
        done: Done,
    ) -> None:
        """See BatchEngine. The first part that fails ends the job."""
        if not parts:
            return
        address = _address()
        with _folder() as folder:
            order = Order(
                job=Job(plan, contract, model, work),
                parts=tuple(part.index for part in parts),
                address=address,
                workers=self.limits.threads or len(os.sched_getaffinity(0)),
                folder=folder,
                timeout=self.limits.part_timeout_seconds,
            )
            with started(order) as driver:
                for receipt in driver.receipts():
                    done(receipt)


def _address() -> str | None:
    """RAY_ADDRESS; None for a Ray of its own. Ray would try for most of a minute where nobody
    listens, and start one of its own on other words."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local"):
        return None
    if address == "auto":
        return address
    host, _, port = address.rpartition(":")
    if "/" in host or not host or not port.isdigit():
        raise EngineError(
            f"no Ray cluster at RAY_ADDRESS={address}: give host:port of its head (6379, not that "
            "of its dashboard or Ray Client), on a machine of the cluster"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise EngineError(f"no Ray cluster at RAY_ADDRESS={address}: {error}") from error
    return address


def _folder() -> "tempfile.TemporaryDirectory[str]":
    """For a Ray of its own: a short path, since those of its sockets have at most 107 bytes."""
    short = Path("/tmp")  # noqa: S108 - mkdtemp makes a folder of its own in it
    return tempfile.TemporaryDirectory(
        prefix="ray-", dir=short if short.is_dir() else None, ignore_cleanup_errors=True
    )
