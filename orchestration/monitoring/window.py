"""The log's last window of one model in one environment: the rows of the version that serves."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from deploy.home import Home
from orchestration.monitoring.drift import Sample
from serving_config.schema import Configuration

if TYPE_CHECKING:
    import pandas as pd

# More rows make no score more certain.
MAX_ROWS = 100_000
_FEATURE = "feature_"


@dataclass(frozen=True)
class Window:
    """label: the version whose rows these are; others: answers of other versions, by label.

    Rows of a version that left say nothing of the one that serves now: what was retrained on the
    traffic of today would be held against the findings about its predecessor.
    """

    label: str
    sample: Sample
    others: dict[str, int] = field(default_factory=dict)


def read_window(
    home: Home,
    configuration: Configuration,
    model: str,
    environment: str,
    since: datetime,
    until: datetime,
    serving: str | None,
) -> Window | None:
    """Answered requests of clients, about MAX_ROWS of them at most; None where there are none.

    serving: the version that serves; where it is None, the one that answered most.
    """
    from deploy.predictions.reader import read_predictions

    place = (home, configuration, model, environment, since, until)
    labels = read_predictions(*place, ["label"], status=200)["label"]
    counted = {item["values"]: item["counts"] for item in labels.value_counts().to_pylist()}
    if not counted:
        return None
    label = serving or max(counted, key=lambda name: (counted[name], name))
    # Hours of long texts may be too much for the memory, and more than Arrow can sort.
    share = MAX_ROWS / counted.pop(label, MAX_ROWS)
    table = _some(read_predictions(*place, status=200, label=label, share=share))
    return Window(label, _sample(table), counted)


def _some(table: Any) -> Any:
    import numpy as np

    if table.num_rows <= MAX_ROWS:
        return table
    chosen = np.random.default_rng(0).choice(table.num_rows, MAX_ROWS, replace=False)
    return table.take(np.sort(chosen))


def features_of(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The model's inputs, by their own names."""
    names = [name for name in frame.columns if name.startswith(_FEATURE)]
    return frame[names].rename(columns=lambda name: name.removeprefix(_FEATURE))


def _sample(table: Any) -> Sample:
    import pandas as pd

    frame = table.to_pandas()
    # Without rows the log knows no columns either.
    empty = pd.Series(dtype=object)
    return Sample(features_of(frame), frame.get("prediction", empty))
