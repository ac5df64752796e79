"""Plans of the compaction: what it is about to do, written before it does it.

A plan goes through three states, each an atomic replacement of one small file:

    taken      `files` is None: its segments count, its Parquet files do not exist for a reader
    written    `files` is there: its Parquet files count, its segments do not exist for a reader
    (gone)     its segments are removed; its Parquet files are like any other
"""

import re
import secrets
from datetime import datetime

import msgspec

from deploy.home import write_atomically
from deploy.predictions.areas import Area
from deploy.predictions.store import sync_folder


class PlanError(RuntimeError):
    """A plan that cannot be read: nobody knows which rows count."""


class Taken(msgspec.Struct, frozen=True):
    """A segment. name: its path below `segments/`; bytes, mtime_ns: of the file that was taken, so
    that another one that later gets the name is not removed for it."""

    name: str
    bytes: int
    mtime_ns: int


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See the module. rows, bytes: of the files; damaged: segments that were read only in part,
    with what is wrong; they go to the quarantine."""

    id: str
    segments: tuple[Taken, ...]
    files: tuple[str, ...] | None = None
    rows: int = 0
    bytes: int = 0
    damaged: dict[str, str] = {}


def new_plan(segments: tuple[Taken, ...], now: datetime) -> Plan:
    """Not written yet. Ids sort by time."""
    return Plan(id=f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}", segments=segments)


def plan_of(file_name: str) -> str:
    """The id of the plan that wrote a Parquet file."""
    return re.sub(r"-\d+\.parquet$", "", file_name)


def read_plans(area: Area) -> list[Plan]:
    """Those that are not finished, the oldest first."""
    found = []
    for path in sorted(area.plans.glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Plan))
        except FileNotFoundError:  # finished since the folder was listed
            continue
        except (OSError, msgspec.DecodeError) as error:
            raise PlanError(
                f"{path}: {error}; its id is in the names of its Parquet files: remove them with "
                "it, and the segments that are still there are compacted anew"
            ) from error
    return found


def write_plan(area: Area, plan: Plan) -> None:
    """Durable once it returns. With `area.changing()`: readers see the state before, or after."""
    area.plans.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(area.plans / f"{plan.id}.json", msgspec.json.encode(plan))
    sync_folder(area.plans)


def remove_plan(area: Area, plan: Plan) -> None:
    """It is finished."""
    (area.plans / f"{plan.id}.json").unlink(missing_ok=True)
