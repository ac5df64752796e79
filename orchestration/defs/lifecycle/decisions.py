"""What the sensors decide, as pure functions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from pydantic import ValidationError

from bentos.model_server.certificate import Certificate
from orchestration.resources.registry import FoundVersion
from serving_config.load import ConfigurationError
from serving_config.release import ReleasePolicy
from serving_config.schema import Model


class Cursor(msgspec.Struct):
    """seen: highest version taken on, by registered model. ignored: models that nobody configured.

    Version numbers are never reused in MLflow, so the highest one seen is all there is to keep.
    """

    seen: dict[str, int] = {}
    ignored: list[str] = []

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """The sensor's cursor; a missing one is the first tick's."""
        return msgspec.json.decode(text, type=cls) if text else cls()

    def write(self) -> str:
        """The text that Dagster keeps."""
        return msgspec.json.encode(self, order="sorted").decode()


@dataclass(frozen=True)
class Decision:
    """partitions: model → versions to list; requests: (model, version) to run; notes: log lines."""

    cursor: Cursor
    partitions: dict[str, list[int]] = field(default_factory=dict)
    requests: list[tuple[str, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def new_versions(
    cursor: Cursor,
    registered: Iterable[str],
    found: Mapping[str, list[FoundVersion]],
    models: Iterable[Model],
) -> Decision:
    """Which versions to take on.

    registered: all registered models; found: model → its versions above the cursor's.

    A model that is met for the first time starts with its newest version: the older ones are
    listed as partitions and can be released by hand. After that every new version is taken on,
    also those that came while nobody looked. A version whose files are still coming, and what
    follows it, waits for the next look.
    """
    models = list(models)
    configured = {model.registered_model for model in models}
    unknown = sorted(set(registered) - configured)
    decision = Decision(Cursor(dict(cursor.seen), unknown))
    decision.notes.extend(
        f"registered model {name!r} is ignored: no serving_config/models/*.yaml names it"
        for name in unknown
        if name not in cursor.ignored
    )
    for model in models:
        _take(decision, model, found.get(model.name, []))
    return decision


def _take(decision: Decision, model: Model, versions: list[FoundVersion]) -> None:
    first_time = model.registered_model not in decision.cursor.seen
    last = decision.cursor.seen.get(model.registered_model, 0)
    fresh: list[int] = []
    for item in sorted(versions, key=lambda item: item.version):
        if item.version <= last:
            continue
        if item.failed:
            decision.notes.append(f"{model.name} version {item.version} failed to register")
            decision.cursor.seen[model.registered_model] = item.version
            continue
        if not item.ready:
            decision.notes.append(f"{model.name} version {item.version} is not ready yet: waiting")
            break
        fresh.append(item.version)
    if fresh:
        decision.cursor.seen[model.registered_model] = fresh[-1]
        decision.partitions[model.name] = fresh
        decision.requests.extend((model.name, v) for v in (fresh[-1:] if first_time else fresh))


def promotes_itself(model: Model, certificate: Certificate) -> bool:
    """Whether a version that went through staging goes on to production without a word."""
    return model.promotion == "auto" and certificate.passed


def chosen_policy(configured: ReleasePolicy, chosen: str | None) -> ReleasePolicy:
    """The configured policy, or another one that a person chose for this run, with its settings.

    Raises ConfigurationError where there is no such policy.
    """
    if chosen is None:
        return configured
    shadow = configured.shadow if chosen == "canary" else None
    settings = configured.model_dump() | {
        "policy": chosen,
        "shadow": shadow.model_dump() if shadow else None,
    }
    try:
        return ReleasePolicy.model_validate(settings)
    except ValidationError as error:
        raise ConfigurationError(
            f"policy {chosen!r}: {error.errors()[0]['msg']} (the run's tag slipway/policy)"
        ) from error


def may_predict_otherwise(policy: ReleasePolicy) -> ReleasePolicy:
    """The policy for a version that was retrained because a check failed, and is better than the
    one in production on recent labels: that it predicts otherwise is what it was trained for, so
    no limit on that holds. Errors, refusals, latency and health are judged as ever."""
    no_limit: dict[str, Any] = {
        "replay": policy.replay.model_dump() | {"max_disagreement": 1.0},
        "analysis": policy.analysis.model_dump() | {"max_prediction_shift": 1.0},
    }
    if policy.shadow is not None:
        no_limit["shadow"] = policy.shadow.model_dump() | {
            "max_disagreement": 1.0,
            "max_probability_difference": 1.0,
        }
    return ReleasePolicy.model_validate(policy.model_dump() | no_limit)


def longest_release_seconds(policy: ReleasePolicy) -> float:
    """How long a run that follows a release may take: all its phases, servers that start, and the
    bake time of the version before, which it waits for."""
    phases = len(policy.steps) + (policy.shadow is not None) if policy.policy == "canary" else 0
    return 3600 + phases * policy.max_seconds + policy.bake_seconds
