"""Compaction: complete segments become Parquet files, each record exactly once.

Killed at any moment, the next run goes on where it stopped:

1. With the compaction lock held, what an earlier run left is finished first.
2. Complete segments are put together to chunks, each of which becomes a plan. It is written
   *before* anything else happens (state "taken").
3. The plan's Parquet files are written, synchronised and renamed. Their names follow from the plan.
   Killed here: the next run writes the same files anew, and removes those that it did not need.
4. The plan is replaced by one that names its files (state "written"): from this moment on they
   count, and its segments do not. Killed here or later: the next run goes on with 5.
5. The segments are removed (those that are damaged go to the quarantine), then the plan.

A reader holds a lock while it reads the plans, the segments and the *list* of Parquet files; 2 and
4 wait for it, for a moment each. So it sees, for each plan:

    not there yet   the segments                          (its files can only come after the lock)
    taken           the segments; files named by the plan are left out, whether complete or not
    written         the files; segments named by the plan are left out, whether still there or not
    gone            the files                             (all its segments went before)

A segment's name may come again after it was removed: a plan knows its segments by size and time of
the last change, too, and leaves another one alone.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import msgspec

from bentos.prediction_log.segments import SegmentError
from deploy.home import Home
from deploy.predictions.areas import Area, label_area, prediction_area
from deploy.predictions.parquet_files import ParquetFiles, group_of
from deploy.predictions.plans import Plan, Taken, new_plan, read_plans, remove_plan, write_plan
from deploy.predictions.segment_files import SegmentFile, complete_segments
from deploy.predictions.store import sync_folder
from serving_config.predictions import Predictions

# What one plan takes at most, however much there is.
_CHUNK_BYTES = 256 << 20
_CHUNK_SEGMENTS = 5000


@dataclass(frozen=True)
class Compacted:
    """What was done. bytes, files: of the Parquet files; damaged: segments that are now in the
    quarantine, with what is wrong."""

    segments: int = 0
    rows: int = 0
    files: tuple[str, ...] = ()
    bytes: int = 0
    seconds: float = 0.0
    damaged: tuple[tuple[str, str], ...] = ()

    @property
    def rows_per_second(self) -> float:
        """0 where there were none."""
        return self.rows / self.seconds if self.rows else 0.0


def compact(home: Home, settings: Predictions, now: datetime) -> Compacted:
    """All complete segments of the prediction log. Waits where another process is at it."""
    return compact_area(prediction_area(home, settings), now)


def compact_labels(home: Home, now: datetime) -> Compacted:
    """The same with the labels."""
    return compact_area(label_area(home), now)


def compact_area(area: Area, now: datetime) -> Compacted:
    """One kind of records."""
    started = time.monotonic()
    damaged: dict[str, str] = {}
    with area.compacting():
        for path in area.plans.glob(".*"):  # a plan that was never whole
            path.unlink()
        done = [_finish(area, plan, again=True) for plan in read_plans(area)]
        for chunk in _chunks(_readable(area, damaged)):
            plan = new_plan(chunk, now)
            with area.changing():
                write_plan(area, plan)
            done.append(_finish(area, plan))
    for plan in done:
        damaged |= plan.damaged
    return Compacted(
        segments=sum(len(plan.segments) for plan in done),
        rows=sum(plan.rows for plan in done),
        files=tuple(file for plan in done for file in plan.files or ()),
        bytes=sum(plan.bytes for plan in done),
        seconds=time.monotonic() - started,
        damaged=tuple(damaged.items()),
    )


def _readable(area: Area, damaged: dict[str, str]) -> list[SegmentFile]:
    """Ordered so that rows of one Parquet file come after each other."""
    found = []
    for segment in complete_segments(area):
        try:
            with segment.opened() as (_, header):
                found.append((() if header is None else group_of(header), segment))
        except FileNotFoundError:
            continue
        except SegmentError as error:
            _quarantine(area, segment)
            damaged[segment.name] = str(error)
    found.sort(key=lambda item: (repr(item[0]), item[1].name))
    return [segment for _, segment in found]


def _chunks(segments: Sequence[SegmentFile]) -> Iterator[tuple[Taken, ...]]:
    chunk: list[Taken] = []
    size = 0
    for taken in (segment.taken() for segment in segments):
        size += taken.bytes
        if chunk and (size > _CHUNK_BYTES or len(chunk) == _CHUNK_SEGMENTS):
            yield tuple(chunk)
            chunk, size = [], taken.bytes
        chunk.append(taken)
    if chunk:
        yield tuple(chunk)


def _finish(area: Area, plan: Plan, *, again: bool = False) -> Plan:
    """The plan as it was when it was finished. again: an earlier run may have begun with it."""
    if plan.files is None:
        plan = _written(area, plan)
        if again:
            _remove_leftovers(area, plan)
        with area.changing():
            write_plan(area, plan)
    _let_go(area, plan)
    remove_plan(area, plan)
    return plan


def _written(area: Area, plan: Plan) -> Plan:
    damaged: dict[str, str] = {}
    store = area.store()
    segments = [SegmentFile(area.segments / taken.name, taken.name) for taken in plan.segments]
    with ParquetFiles(store, plan.id) as output:
        for segment in segments:
            try:
                for header, table in segment.tables():
                    output.write(header, table)
            except SegmentError as error:
                damaged[segment.name] = str(error)
            except FileNotFoundError:
                damaged[segment.name] = "it was removed while it was being compacted"
    return msgspec.structs.replace(
        plan,
        files=tuple(output.files),
        rows=output.rows,
        bytes=sum(store.size(path) for path in output.files),
        damaged=damaged,
    )


def _remove_leftovers(area: Area, plan: Plan) -> None:
    """Files that the earlier run wrote and this one did not: they would count."""
    store = area.store()
    segments = (SegmentFile(area.segments / taken.name, taken.name) for taken in plan.segments)
    for model, environment in {(segment.model, segment.environment) for segment in segments}:
        for folder in store.days(model, environment).values():
            for path in set(store.leftovers(folder, plan.id)) - set(plan.files or ()):
                store.remove(path)


def _let_go(area: Area, plan: Plan) -> None:
    for taken in plan.segments:
        segment = SegmentFile(area.segments / taken.name, taken.name)
        with suppress(FileNotFoundError):
            if segment.taken() != taken:
                continue
            if taken.name in plan.damaged:
                _quarantine(area, segment)
            else:
                segment.path.unlink()
    # Before the plan goes: else a power failure could bring them back.
    for folder in {(area.segments / taken.name).parent for taken in plan.segments}:
        with suppress(FileNotFoundError):
            sync_folder(folder)


def _quarantine(area: Area, segment: SegmentFile) -> None:
    place = area.quarantine / segment.name
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.exists():
        place = place.with_name(f"{place.name}.{time.time_ns()}")
    segment.path.rename(place)
    sync_folder(place.parent)
