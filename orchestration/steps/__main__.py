"""`python -m orchestration.steps export MODEL VERSION`, `verify MODEL VERSION`, `batch MODEL`.

Dagster starts it, see `orchestration.steps.base`. What comes out is reported by Dagster Pipes, an
explained failure too: the process ends well where it could say so. By hand there are
`slipway release` and `slipway batch-predict`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, PipesContext, open_dagster_pipes

from orchestration.batch.documents import to_builtins
from orchestration.defs.batch.progress import Progress
from orchestration.defs.lifecycle.failures import one_sentence, said_by
from orchestration.defs.lifecycle.names import Names
from orchestration.labels import Label
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.steps.base import FAILED, RESULT
from serving_config.schema import Model


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    asked = _parse(arguments)
    with open_dagster_pipes() as pipes:
        try:
            with one_sentence():
                result = _carried_out(pipes, asked)
        except dg.Failure as failure:
            print(said_by(failure), file=sys.stderr)  # noqa: T201
            pipes.report_custom_message({FAILED: said_by(failure)})
        else:
            pipes.report_custom_message({RESULT: result})
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m orchestration.steps")
    names = parser.add_subparsers(dest="step", required=True)
    for name in ("export", "verify"):
        step = names.add_parser(name)
        step.add_argument("model")
        step.add_argument("version")
    names.add_parser("batch").add_argument("model")
    asked = parser.parse_args(arguments)
    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ:
        parser.error("Dagster starts it; by hand there is `slipway release`")
    return asked


def _carried_out(pipes: PipesContext, asked: argparse.Namespace) -> dict[str, Any]:
    serving = Serving.from_environment()
    configuration = serving.configuration
    model = configuration.models.get(asked.model)
    if model is None:
        known = ", ".join(sorted(configuration.models)) or "none"
        raise dg.Failure(f"there is no model {asked.model}; there is: {known}")
    if asked.step == "batch":
        return _batch(pipes, serving)
    registry = Registry(tracking_uri=configuration.platform.mlflow.uri)
    label = Label.configured(asked.version, model)
    if asked.step == "export":
        return _export(pipes, registry, serving, model, label)
    return _verify(pipes, registry, serving, model, label)


def _export(
    pipes: PipesContext, registry: Registry, serving: Serving, model: Model, label: Label
) -> dict[str, Any]:
    from orchestration.steps.lifecycle import exported
    from orchestration.steps.reports import report_materialization

    report_materialization(pipes, exported(registry, serving, model, label, pipes.run_id))
    return {}


def _verify(
    pipes: PipesContext, registry: Registry, serving: Serving, model: Model, label: Label
) -> dict[str, Any]:
    from orchestration.steps.lifecycle import verified
    from orchestration.steps.reports import report_check

    result = verified(registry, serving, model, label)
    report_check(pipes, Names(model.name).asset("onnx_model"), "conversion_parity", result)
    return {"description": result.description}


def _batch(pipes: PipesContext, serving: Serving) -> dict[str, Any]:
    from orchestration.batch.job import run_job
    from orchestration.steps.batch import asked_for

    watch = Progress(pipes.log.info).watch
    manifest = run_job(serving.paths, serving.configuration, asked_for(pipes.extras), watch)
    return {"manifest": to_builtins(manifest)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
