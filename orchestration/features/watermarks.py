"""How far each feature view is materialized: a small file for each.

Everything a source has before the watermark is in the online store. It moves once that is so and
never leaves a gap, so a window that was missed or failed is caught up by the next run. Feast's own
list of materialized intervals would say less: it is in the registry, which is made anew from the
definitions, and it knows no gaps.
"""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from deploy.home import Home, write_atomically
from feature_repo.apply import WATERMARKS
from feature_repo.description import View
from orchestration.features.errors import FeatureError


class Watermark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a view is.

    until: the online store has what the sources had before that; at: when that was reached;
    definition: of the view and the store it is about (`definition_of`). rows: of the last run.
    """

    until: datetime
    at: datetime
    definition: str
    rows: int = 0


def definition_of(view: View, store: str) -> str:
    """What a watermark is about: another definition of the view, or another store, starts anew."""
    return hashlib.sha256(msgspec.json.encode((view, store))).hexdigest()


def watermark_path(home: Home, view: str) -> Path:
    """Where a view's watermark lies."""
    return home.features / WATERMARKS / f"{view}.json"


def read_watermark(home: Home, view: View, store: str) -> Watermark | None:
    """How far the view is in that store, None where it was not materialized as it is defined.

    One of the future is None, too: the clock was wrong then, and nothing would be done until then.
    """
    path = watermark_path(home, view.name)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Watermark)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise FeatureError(
            f"{path}: {error}; remove it, and the next run materializes {view.name} anew"
        ) from error
    past = found.until <= datetime.now(UTC)
    return found if past and found.definition == definition_of(view, store) else None


def write_watermark(home: Home, view: str, watermark: Watermark) -> None:
    """Replace the watermark."""
    path = watermark_path(home, view)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.encode(watermark))


@contextmanager
def locked(home: Home, view: str) -> Iterator[None]:
    """One run of a view at a time, whoever started it."""
    path = watermark_path(home, view).with_suffix(".lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
