"""Inputs from the feature store, as they were at each row's moment: training's own code."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

from bentos.model_server.fields import shown
from orchestration.batch.documents import FeatureJoin, JoinedView
from orchestration.batch.errors import InputError
from orchestration.batch.join_keys import EVENT_TIMESTAMP, Complaint, Refused, frame_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# Feast is not made for threads, and a join uses all cores by itself.
_ONE_AT_A_TIME = Lock()


@dataclass
class Joined:
    """rows: as they came, with the provided inputs as columns; refused: by row, why it must not be
    scored."""

    rows: "pa.Table"
    refused: Refused = field(default_factory=lambda: defaultdict(list))


class Joiner:
    """Bound to the feature store's home and a join; closed as a context manager is.

    InputError where the store cannot be opened or a source of it cannot be read.
    """

    def __init__(self, join: FeatureJoin, features_home: str) -> None:
        from feature_repo.store import StoreError, open_store

        self._join = join
        try:
            self._store = open_store(Path(features_home), join.store)
        except StoreError as error:
            raise InputError(f"the feature store cannot be opened: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        from feature_repo.store import close_store

        close_store(self._store)

    def joined(self, rows: "pa.Table") -> Joined:
        """The rows, in their order, with the provided inputs as columns.

        An entity without values at that moment (unknown, or older than the view's TTL) is refused
        or gets the view's defaults, as the settings say for requests.
        """
        import numpy as np
        import pyarrow as pa

        frame, refused = frame_of(self._join, rows)
        found = self._looked_up(frame)
        absent = {view.name: _absent(view, found) for view in self._join.views}
        old = self._looked_up(frame.loc[_united(absent.values())], stale=True)
        for view in self._join.views:
            _settle(view, found, old.loc[absent[view.name]], frame, refused)
        places = np.full(rows.num_rows, -1)
        places[found.index] = np.arange(len(found))
        provided = pa.Table.from_pandas(
            found[list(self._join.provided)], preserve_index=False
        ).take(pa.array(places, mask=places < 0))
        for name in self._join.provided:
            rows = rows.append_column(name, provided[name])
        return Joined(rows, refused)

    def _looked_up(self, frame: "pd.DataFrame", *, stale: bool = False) -> "pd.DataFrame":
        from feature_repo.historical import TrainingSetError, training_set
        from feature_repo.source_files import SourceError

        if frame.empty:
            of_views = (feature for view in self._join.views for feature in view.features)
            return frame.reindex(columns=[*{*frame.columns, *self._join.provided, *of_views}])
        try:
            with _ONE_AT_A_TIME:
                return training_set(self._store, self._join.service, frame, with_stale=stale)
        except (TrainingSetError, SourceError) as error:
            raise InputError(f"features cannot be looked up: {error}") from error


def _absent(view: JoinedView, found: "pd.DataFrame") -> "pd.Index[int]":
    """The rows that the view has nothing for."""
    return found.index[found[list(view.features)].isna().all(axis="columns")]


def _united(rows: "Iterable[pd.Index[int]]") -> "pd.Index[int]":
    import pandas as pd

    return reduce(lambda one, other: one.union(other), rows, pd.Index([], dtype="int64"))


def _settle(
    view: JoinedView,
    found: "pd.DataFrame",
    old: "pd.DataFrame",
    frame: "pd.DataFrame",
    refused: Refused,
) -> None:
    """What becomes of the rows that the view has nothing for. old: what it had of them whatever
    the TTL."""
    features = list(view.features)
    stale = old[old[features].notna().any(axis="columns")]
    for name, policy, places in (
        ("unknown", view.on_unknown, old.index.difference(stale.index)),
        ("stale", view.on_stale, stale.index),
    ):
        if policy == "refuse":
            _refuse(view, name, frame.loc[places], refused)
            continue
        for feature in features:
            values = view.defaults.get(feature) if policy == "default" else stale[feature]
            found.loc[places, feature] = values


def _refuse(view: JoinedView, status: str, frame: "pd.DataFrame", refused: Refused) -> None:
    """As the feature transformer says it."""
    had = "values older than its TTL" if status == "stale" else "no values"
    kind = f"{view.keys[0]}: {status}: {view.name} has {had}"
    for row, *keys, moment in frame[[*view.keys, EVENT_TIMESTAMP]].itertuples(name=None):
        key = ", ".join(shown(value) for value in keys)
        refused[row].append(Complaint(f"{kind} for {key} at {moment.isoformat()}", kind))
