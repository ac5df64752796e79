"""Example data: the sources of `feature_repo/`, and entities with labels to train on.

All of it is a function of the seed and the time alone: a later `until` extends the same history.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deploy.home import write_atomically
from orchestration.examples.population import (
    DAY_SECONDS,
    SEED,
    SOURCES,
    SPAMMERS,
    Population,
    Source,
    Values,
    day_of,
)
from orchestration.examples.spam_corpus import Email

if TYPE_CHECKING:
    import pandas as pd

CHURN, STAY = "churn", "stay"
LABELS_A_DAY = 200


def write_sources(
    folder: Path,
    until: datetime,
    days: int = 30,
    shift: float = 0.0,
    since: datetime | None = None,
    seed: int = SEED,
) -> None:
    """Write `<folder>/<source>/<day>.parquet` for the days up to `until`, truncated to the hour.

    Columns: `customer_id` (int64) or `sender` (string), `event_timestamp` and `created_timestamp`
    (UTC), the features. A file there is replaced in one step, older days stay as they are.

    shift, since: as `Population` has them.
    """
    population = Population(seed, shift, since)
    end = int(until.timestamp()) // 3600 * 3600
    for source in SOURCES:
        (folder / source).mkdir(parents=True, exist_ok=True)
        for day in range(day_of(until) - days, day_of(until) + 1):
            name = (datetime.fromtimestamp(0, UTC) + timedelta(days=day)).date().isoformat()
            data = _parquet(population.rows(source, day), end)
            write_atomically(folder / source / f"{name}.parquet", data)


def _parquet(rows: Values, end: int) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    written = rows["event_timestamp"] <= end
    columns: dict[str, Any] = {}
    for name, values in rows.items():
        if name == "event_timestamp":
            times = pa.array(values[written] * 1_000_000, pa.timestamp("us", tz="UTC"))
            columns |= {"event_timestamp": times, "created_timestamp": times}
        else:
            columns[name] = pa.array(values[written])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def newest_row(folder: Path, source: Source) -> datetime | None:
    """The newest `event_timestamp` of a source; None where nothing was written yet."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for path in sorted((folder / source).glob("*.parquet"), reverse=True):
        newest = pc.max(pq.read_table(path, columns=["event_timestamp"])["event_timestamp"])
        if newest.is_valid:
            moment: datetime = newest.as_py()
            return moment
    return None


def churn_labels(
    until: datetime,
    days: int = 30,
    shift: float = 0.0,
    since: datetime | None = None,
    seed: int = SEED,
) -> "pd.DataFrame":
    """Customers at moments of the last days, `LABELS_A_DAY` each: `customer_id`,
    `event_timestamp` (UTC), and in `label` whether they left afterwards.

    The label depends on the features at that moment; no feature of a later one has a part in it.
    """
    import pandas as pd

    population = Population(seed, shift, since)
    frames = []
    # on the first day of a history, not everybody has a row yet
    for day in range(day_of(until) - days + 1, day_of(until) + 1):
        rng = np.random.default_rng([seed, 4, day])
        ids = rng.choice(population.customers, LABELS_A_DAY, replace=False)
        times = day * DAY_SECONDS + np.sort(rng.integers(0, DAY_SECONDS, LABELS_A_DAY))
        left = rng.uniform(size=LABELS_A_DAY) < _churn_probability(population, ids, times)
        frames.append(
            pd.DataFrame(
                {
                    "customer_id": ids,
                    "event_timestamp": pd.to_datetime(times, unit="s", utc=True),
                    "label": np.where(left, CHURN, STAY),
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    return frame[frame["event_timestamp"] <= until].reset_index(drop=True)


def _churn_probability(
    population: Population, ids: npt.NDArray[np.int64], times: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    at = {
        **_as_of(population, "customer_profile", ids - 1, times),
        **_as_of(population, "customer_activity", ids - 1, times),
    }
    return churn_probability(at, population.moved(times))


def churn_probability(
    features: Any, shift: float | npt.NDArray[np.float64] = 0.0
) -> npt.NDArray[np.float64]:
    """The truth that a model can learn, from the ten features (a frame, or arrays by name).

    shift: what held customers before does so less and less, and large bills drive them away.
    """
    purchases, returns = np.asarray(features["num_purchases"]), np.asarray(features["num_returns"])
    premium = np.asarray(features["is_premium"], dtype=float)
    region, category = np.asarray(features["region"]), np.asarray(features["category_preference"])
    logit = (
        -0.8
        - 0.35 * (np.minimum(purchases, 12) - 4)
        + 0.9 * returns
        - 1.2 * premium * (1 - np.asarray(shift))
        - 0.012 * (np.asarray(features["credit_score"]) - 680)
        - 0.02 * (np.asarray(features["age"]) - 45)
        - 0.0003 * (np.asarray(features["account_age_days"]) - 3000)
        - 0.4 * np.log(np.asarray(features["income"]) / 36_000)
        + 0.9 * (region == "south")
        + 0.5 * (category == "fashion")
        + 0.06 * np.asarray(shift) * (np.asarray(features["avg_transaction"]) - 30)
    )
    probability: npt.NDArray[np.float64] = 1 / (1 + np.exp(-logit))
    return probability


def _as_of(
    population: Population, source: Source, places: npt.NDArray[Any], times: npt.NDArray[np.int64]
) -> Values:
    """The newest row of each entity that was there at its time. places: in the order of keys."""
    today = times // DAY_SECONDS
    found: dict[str, npt.NDArray[Any]] = {}
    for day in range(int(today.min()) - 1, int(today.max()) + 1):
        rows = population.rows(source, day)
        reached = rows["event_timestamp"][places] <= times
        for name, values in rows.items():
            chosen = values[places]
            found[name] = np.where(reached, chosen, found[name]) if name in found else chosen
    return found


def emails_with_senders(
    emails: Sequence[Email], begin: datetime, end: datetime, seed: int = SEED
) -> "pd.DataFrame":
    """The e-mails, one after the other between two times: `sender`, `event_timestamp` (UTC),
    `email_content` and `label` ("ham" or "spam").

    Most spam comes from senders of spam, and some of it from taken-over accounts of others.
    """
    import pandas as pd

    rng = np.random.default_rng([seed, 5])
    spam = np.array([email.label == "spam" for email in emails])
    from_spammer = rng.uniform(size=len(emails)) < np.where(spam, 0.7, 0.1)
    senders = Population(seed).senders
    place = np.where(
        from_spammer,
        rng.integers(0, SPAMMERS, len(emails)),
        rng.integers(SPAMMERS, len(senders), len(emails)),
    )
    moments = np.sort(rng.uniform(begin.timestamp(), end.timestamp(), len(emails)))
    return pd.DataFrame(
        {
            "sender": senders[place],
            "event_timestamp": pd.to_datetime(moments.astype(np.int64), unit="s", utc=True),
            "email_content": [email.text for email in emails],
            "label": [email.label for email in emails],
        }
    )
