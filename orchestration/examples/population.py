"""Invented customers and senders, and their features on any day: what the feature sources hold.

Each day has a random stream of its own, so a day's values are the same whenever, and together with
whichever other days, they are asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

SEED = 7
CUSTOMERS = 2000
SENDERS = 500
SPAMMERS = 125
REGIONS = ("east", "north", "south", "west")
CATEGORIES = ("electronics", "fashion", "groceries", "home", "sports")
DAY_SECONDS = 86_400
_EPOCH = date(2024, 1, 1).toordinal() - date(1970, 1, 1).toordinal()

Source = Literal["customer_profile", "customer_activity", "sender_activity"]
SOURCES: tuple[Source, ...] = ("customer_profile", "customer_activity", "sender_activity")
Values = Mapping[str, npt.NDArray[Any]]


def day_of(moment: datetime) -> int:
    """Days since 1970 in UTC; ValueError for a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; give it in UTC")
    return int(moment.timestamp() // DAY_SECONDS)


@dataclass(frozen=True)
class Population:
    """shift: how far the population has moved, 1 is far; since: from when on it has, None for
    always. Days are counted since 1970, in UTC."""

    seed: int = SEED
    shift: float = 0.0
    since: datetime | None = None

    def rows(self, source: Source, day: int) -> Values:
        """A row for each customer or sender, ordered by key: the key, `event_timestamp` (seconds
        since 1970, int64) and the features.

        A profile is of midnight; activity is summed up once a day, at an hour of each one's own.
        """
        make = {
            "customer_profile": self._profile,
            "customer_activity": self._activity,
            "sender_activity": self._sender,
        }[source]
        key = self.senders if source == "sender_activity" else self.customers
        hours = np.arange(len(key)) % 24 * (source != "customer_profile")
        times = day * DAY_SECONDS + hours.astype(np.int64) * 3600
        before, after = make(day, 0.0), make(day, self.shift)
        moved = self.moved(times) != 0
        name = "sender" if source == "sender_activity" else "customer_id"
        features = {n: np.where(moved, after[n], before[n]) for n in before}
        return {name: key, "event_timestamp": times, **features}

    def moved(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """How far the population has moved at each time (seconds since 1970)."""
        since = -np.inf if self.since is None else self.since.timestamp()
        return np.where(times >= since, self.shift, 0.0)

    @cached_property
    def customers(self) -> npt.NDArray[np.int64]:
        """All customer ids."""
        return np.arange(1, CUSTOMERS + 1, dtype=np.int64)

    @cached_property
    def senders(self) -> npt.NDArray[np.object_]:
        """All senders' addresses; the first `SPAMMERS` send spam, mostly."""
        return np.array([f"sender-{i:03}@example.com" for i in range(SENDERS)], dtype=object)

    @cached_property
    def _traits(self) -> Values:
        """What of a customer does not change from day to day."""
        rng = np.random.default_rng([self.seed, 0])
        wealth, loyalty = rng.normal(size=CUSTOMERS), rng.normal(size=CUSTOMERS)
        return {
            "wealth": wealth,
            "loyalty": loyalty,
            "age": np.clip(rng.normal(44, 14, CUSTOMERS), 18, 88),
            "joined": _EPOCH - rng.integers(1, 4000, CUSTOMERS),
            "premium": rng.normal(size=CUSTOMERS) + 0.6 * wealth + 0.4 * loyalty,
            "region": rng.choice(len(REGIONS), CUSTOMERS, p=(0.2, 0.3, 0.15, 0.35)),
            "category": rng.choice(len(CATEGORIES), CUSTOMERS),
            "phase": rng.uniform(0, 2 * np.pi, CUSTOMERS),
            "mover": rng.uniform(size=CUSTOMERS),
        }

    def _profile(self, day: int, moved: float) -> Values:
        traits, years = self._traits, (day - _EPOCH) / 365.25
        rng = np.random.default_rng([self.seed, 1, day])
        score = 680 + 55 * traits["wealth"] + 15 * np.sin(day / 15 + traits["phase"])
        score += rng.normal(0, 5, CUSTOMERS) - 70 * moved
        income = np.exp(10.5 + 0.45 * traits["wealth"] - 0.5 * moved)
        region = np.where(traits["mover"] < 0.5 * moved, REGIONS.index("south"), traits["region"])
        return {
            "age": np.clip(traits["age"] + years - 9 * moved, 18, 100).astype(np.int64),
            "income": np.round(income, -2),
            "credit_score": np.clip(score, 300, 850).astype(np.int64),
            "account_age_days": np.maximum(day - traits["joined"], 0).astype(np.int64),
            "is_premium": traits["premium"] > 0.8,
            "region": np.array(REGIONS, dtype=object)[region],
            "category_preference": np.array(CATEGORIES, dtype=object)[traits["category"]],
        }

    def _activity(self, day: int, moved: float) -> Values:
        traits, rng = self._traits, np.random.default_rng([self.seed, 2, day])
        rate = 1.5 + 0.5 * traits["loyalty"] + 0.4 * np.sin(day / 9 + traits["phase"])
        purchases = rng.poisson(np.exp(rate - 0.8 * moved))
        spent = np.exp(3.6 + 0.3 * traits["wealth"] + rng.normal(0, 0.2, CUSTOMERS) + 0.5 * moved)
        return {
            "num_purchases": purchases.astype(np.int64),
            "avg_transaction": np.where(purchases > 0, np.round(spent, 2), 0.0),
            "num_returns": rng.binomial(purchases, 0.18).astype(np.int64),
        }

    def _sender(self, day: int, moved: float) -> Values:
        """A spammer's account is closed after weeks, and opened again."""
        rng, spammer = np.random.default_rng([self.seed, 3, day]), np.arange(SENDERS) < SPAMMERS
        place = np.arange(SENDERS)
        messages = rng.poisson(np.where(spammer, 45, 30) * np.exp(0.7 * moved))
        reported = np.where(spammer, 0.12, 0.01) * np.exp(0.5 * moved)
        ages = np.where(spammer, (day + 7 * place) % 60, day - _EPOCH + 9 * place + 30)
        return {
            "sender_messages_7d": messages.astype(np.int64),
            "sender_reports_7d": rng.binomial(messages, np.minimum(reported, 1)).astype(np.int64),
            "sender_account_age_days": np.maximum(ages, 0).astype(np.int64),
        }
