"""How a version comes to serve: the release policies, and what decides between on and back."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serving_config.base import Seconds, Settings

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(gt=0, le=600_000, allow_inf_nan=False)]
Percent = Annotated[int, Field(ge=1, le=99)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Health(Settings):
    """Limits of a version that has all traffic; past one of them it is rolled back, and alerted."""

    max_error_rate: Share = 0.01
    """Share of requests, 0 to 1, that may fail (5xx, or no answer)."""
    p99_ms: Milliseconds = 500
    """99 of 100 predictions are answered within so many milliseconds."""


class Analysis(Settings):
    """What a canary may do worse than the version it is to replace, at the same time."""

    false_rollback_probability: Annotated[float, Field(gt=0, lt=0.5, allow_inf_nan=False)] = 0.01
    """Chance that a version within all limits is rolled back, however often one looks."""
    max_error_increase: Share = 0.01
    """Share of failed requests above that of the stable version."""
    max_refusal_increase: Share = 0.05
    """Share of refused requests (4xx) above that of the stable version."""
    max_slow_increase: Share = 0.05
    """Share of slow predictions above that of the stable version."""
    slowdown: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)] = 3
    """Slow is what takes longer than so many times the stable version's p99 (50 ms at least), or
    than `health.p99_ms`."""
    max_prediction_shift: Share = 0.1
    """How far the share of any class, or of any range of values, may lie from the stable one's."""


class Replay(Settings):
    """Requests that the candidate answers before any client's."""

    rows: Annotated[int, Field(ge=0, le=10_000)] = 100
    """The last so many logged rows of clients are put to both versions. The stable version's golden
    rows are, where the log has fewer of them or may not keep an input; always, with 0."""
    max_disagreement: Share = 0.5
    """Share of those rows on which the candidate may predict another class,
    or a value that is off by more than a tenth; many golden rows lie beside a threshold, so two
    good versions differ on some. The candidate's own golden rows have to come back within the
    certificate's tolerance, whatever stands here."""


class Shadow(Settings):
    """Live requests that are copied to the candidate, whose answers nobody gets."""

    share: Annotated[int, Field(ge=1, le=100)] = 20
    """Percent of the requests that are copied."""
    min_requests: Count = 200
    """Requests that both versions have answered, before it is over."""
    min_seconds: Seconds = 30
    """How long it lasts at least."""
    max_disagreement: Share = 0.05
    """Share of rows on which the two may predict another class (or a value off by a tenth)."""
    max_probability_difference: Share = 0.1
    """Mean difference of the predicted class's probability."""


class ReleasePolicy(Settings):
    """How a version replaces the one that serves.

    direct: all traffic at once; the old server goes as soon as it has drained. blue_green: golden
    requests first, then all traffic at once; the old server stays for the bake time. canary: as
    blue_green, but step by step, each step judged against the stable version.
    """

    policy: Literal["direct", "blue_green", "canary"] = "direct"
    """See the class."""
    steps: Annotated[tuple[Percent, ...], Field(strict=False, min_length=1, max_length=20)] = (
        5,
        25,
        50,
    )
    """canary: percent of the traffic at each step, rising; 100 follows by itself."""
    min_requests: Count = 500
    """canary: requests that the candidate has answered in a step before the next one."""
    min_seconds: Seconds = 60
    """canary: how long a step lasts at least."""
    max_seconds: Annotated[float, Field(gt=0, le=604_800, allow_inf_nan=False)] = 3600
    """A step or shadow that has not seen enough requests by then is rolled back."""
    probe_requests_per_second: Annotated[int, Field(ge=0, le=1000)] = 0
    """canary: golden requests a second, for models with little traffic. They are split as clients'
    requests are: a candidate with 10 % of the traffic gets a tenth of them."""
    bake_seconds: Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)] = 300
    """How long `health` is watched after a release. With blue_green and canary the old version
    stays loaded meanwhile, so that a rollback takes a second."""
    health: Health = Health()
    """Limits of the version that serves."""
    analysis: Analysis = Analysis()
    """canary: limits of the candidate, compared with the stable version."""
    replay: Replay = Replay()
    """blue_green and canary: golden requests before any traffic."""
    shadow: Shadow | None = None
    """canary: copied traffic before the first step; none where it is left out."""

    def over(self, base: "ReleasePolicy") -> "ReleasePolicy":
        """This policy, with `base` for whatever was left out of it. ValidationError where the two
        do not go together."""
        theirs, own = (policy.model_dump(exclude_unset=True) for policy in (base, self))
        return ReleasePolicy.model_validate(_merged(theirs, own))

    @model_validator(mode="after")
    def _steps_rise(self) -> "ReleasePolicy":
        if any(one >= next_ for one, next_ in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError(f"steps {list(self.steps)} must rise: each more than the one before")
        return self

    @model_validator(mode="after")
    def _time_is_possible(self) -> "ReleasePolicy":
        longest = max(self.min_seconds, self.shadow.min_seconds if self.shadow else 0)
        if self.max_seconds < longest:
            raise ValueError(
                f"max_seconds {self.max_seconds:g} is below min_seconds {longest:g}: "
                "no step could ever pass"
            )
        return self

    @model_validator(mode="after")
    def _shadow_belongs_to_a_canary(self) -> "ReleasePolicy":
        if self.shadow is not None and self.policy != "canary":
            raise ValueError(f"shadow is for the policy canary, not for {self.policy}")
        return self


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    nested = {
        key: _merged(base[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | over | nested
