"""Labelled answers to learn from, as a training function gets them."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from deploy.home import Home
from serving_config.schema import Configuration, Model

if TYPE_CHECKING:
    import pandas as pd

_PREFIX = "feature_"


def fresh_rows(
    home: Home, configuration: Configuration, model: Model, since: datetime | None, until: datetime
) -> "pd.DataFrame | None":
    """The answers whose labels came in after `since`, as `TrainingRequest.fresh`; None for none."""
    table = _labelled(home, configuration, model, since, until)
    if table.num_rows == 0:
        return None
    # A hash is not what the model gets.
    hashed = {f"{_PREFIX}{name}" for name in model.prediction_log.hashed}
    names = [n for n in table.column_names if n.startswith(_PREFIX) and n not in hashed]
    frame = table.select([*names, "truth", "time"]).to_pandas()
    renamed = {name: name.removeprefix(_PREFIX) for name in names} | {"truth": "label"}
    found: pd.DataFrame = frame.rename(columns=renamed)
    return found


def fresh_count(
    home: Home, configuration: Configuration, model: Model, since: datetime | None, until: datetime
) -> int:
    """How many there are."""
    return int(_labelled(home, configuration, model, since, until).num_rows)


def _labelled(
    home: Home,
    configuration: Configuration,
    model: Model,
    since: datetime | None,
    until: datetime,
) -> Any:
    """Labels are late: an answer from before the last training may have got its label after it.

    A label of no class of the model is left out: a slip of the pen would become a class.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from deploy.predictions.reader import labelled
    from deploy.predictions.tables import PROBABILITY

    environment = model.retraining.environment if model.retraining else "production"
    late = timedelta(hours=model.quality.window_hours)
    begin = since and since - late
    place = (home, configuration, model.name, environment, begin, until)
    table = labelled(*place, labels_since=since)
    heads = [name for name in table.column_names if name.startswith(PROBABILITY)]
    if not heads:
        return table
    classes = [name.removeprefix(PROBABILITY) for name in heads]
    return table.filter(pc.is_in(table["truth"].cast(pa.string()), pa.array(classes)))
