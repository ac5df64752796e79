"""The check `better_than_production`: a retrained version has to beat the one it would replace."""

import tempfile
from pathlib import Path
from typing import Any

import dagster as dg

from deploy.challenge import Challenge, Champion, Comparison
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.names import Names
from orchestration.labels import Label
from orchestration.monitoring.contest import HOLD_OUT
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.training import REASON, by_hand
from serving_config.monitoring import Retraining
from serving_config.schema import Model

CHECK = "better_than_production"


def better_than_production(model: Model) -> dg.AssetChecksDefinition:
    """On the staging deployment, whose run a promotion follows: a person may still promote it."""
    names = Names(model.name)

    @dg.asset_check(
        asset=names.asset("staging_deployment"),
        name=CHECK,
        description="A version that a check asked for beats the one in production on its hold-out.",
        blocking=True,
        partitions_def=names.partitions,
    )
    def check(
        context: dg.AssetCheckExecutionContext, registry: Registry, serving: Serving
    ) -> dg.AssetCheckResult:
        with one_sentence():
            label = Label.parse(context.partition_key)
            if label.is_variant:
                verdict = f"a variant of version {label.number} is held against that alone"
                return dg.AssetCheckResult(passed=True, metadata={"verdict": verdict})
            challenge = compare(registry, serving, model, label.number)
        return dg.AssetCheckResult(passed=challenge.passed, metadata=_metadata(challenge))

    return check


def compare(registry: Registry, serving: Serving, model: Model, number: int) -> Challenge:
    """Hold the version against the one in production now, and keep what comes of it."""
    challenge = challenged(registry, serving, model, number)
    folder = serving.folder(model.name, number)
    folder.write_challenge(challenge)
    if challenge.retrained_because:
        version = registry.get(model.registered_model, number)
        registry.log_files(version, folder.path, ["challenger.json"])
        verdict = "passed" if challenge.passed else "failed"
        registry.tag(model.registered_model, number, {f"slipway.{CHECK}": verdict})
    return challenge


def challenged(registry: Registry, serving: Serving, model: Model, number: int) -> Challenge:
    """The version against the one in production, where a check asked for the version."""
    version = registry.get(model.registered_model, number)
    reason = str(version.tags.get(REASON, ""))
    challenge = Challenge(
        model=model.name,
        version=number,
        onnx_sha256=serving.folder(model.name, number).onnx_sha256(),
        retrained_because="" if by_hand(reason) else reason,
        champion=serving.champion(model.name),
    )
    if challenge.unopposed or challenge.champion is None:
        return challenge
    return _compared(registry, serving, model, challenge, challenge.champion, version.run_id)


def _compared(
    registry: Registry,
    serving: Serving,
    model: Model,
    challenge: Challenge,
    champion: Champion,
    run_id: str | None,
) -> Challenge:
    import msgspec

    from orchestration.monitoring.contest import ContestError

    def failed(why: str) -> Challenge:
        return msgspec.structs.replace(challenge, failure=why)

    with tempfile.TemporaryDirectory() as scratch:
        path = registry.download_run_artifact(run_id, HOLD_OUT, Path(scratch)) if run_id else None
        if path is None:
            return failed(f"its training run left no {HOLD_OUT}")
        try:
            found = _contest(serving, model, challenge, champion, path.read_bytes())
        except ContestError as error:
            return failed(str(error))
    return msgspec.structs.replace(challenge, comparison=found)


def _contest(
    serving: Serving, model: Model, challenge: Challenge, champion: Champion, holdout: bytes
) -> Comparison:
    from orchestration.monitoring.contest import ContestError, contest

    production = serving.folder(model.name, champion.label)
    if production.onnx_sha256() != champion.onnx_sha256:
        raise ContestError(f"version {champion.label}'s model.onnx is not the one that serves")
    candidate = serving.folder(model.name, challenge.version)
    gain = (model.retraining or Retraining()).min_gain
    return contest(candidate, production, holdout, model.quality, gain)


def _metadata(challenge: Challenge) -> dict[str, Any]:
    found: dict[str, Any] = {"verdict": challenge.verdict}
    if challenge.retrained_because:
        found["retrained_because"] = challenge.retrained_because
    if challenge.champion:
        found["in_production"] = challenge.champion.label
    if (compared := challenge.comparison) is not None:
        found |= {
            "metric": compared.metric,
            "candidate": compared.candidate,
            "production": compared.production,
            "gain": compared.gain,
            "min_gain": compared.min_gain,
            "rows": compared.rows,
            "rows_left_out": compared.left_out,
            "holdout_sha256": compared.holdout_sha256,
        }
    return found
