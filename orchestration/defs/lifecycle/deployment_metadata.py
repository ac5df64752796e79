"""What Dagster's UI shows beside a deployment."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

import dagster as dg

from deploy.events import Event, Live
from deploy.history import last_healthy
from deploy.rollout import Request
from orchestration.defs.lifecycle.metadata import table
from orchestration.resources.serving import Serving


def weights_table(live: Sequence[Live]) -> dg.TableMetadataValue:
    """What serves, with its share of the traffic; `copied` is a shadow's."""
    return table(
        [
            {
                "version": item.label,
                "weight": f"{item.weight} %",
                "copied": f"{item.mirror} %" if item.mirror else None,
                "bento": item.bento,
            }
            for item in live
        ]
    )


def deployment_metadata(
    serving: Serving, request: Request, status: str, events: Sequence[Event]
) -> dict[str, Any]:
    """events: of the model in the environment, in order; the last one led to what serves now."""
    live, last = request.release.live(), events[-1]
    base = f"{serving.gateway_url}/models/{last.model}"
    return {
        "status": status,
        "policy": request.policy.policy,
        "generation": last.generation,
        "weights": weights_table(last.live),
        "bento": live.bento,
        "onnx_sha256": live.onnx_sha256,
        "certificate_sha256": live.certificate_sha256,
        "ledger_event": last.id,
        "address": dg.MetadataValue.url(base),
        "try_it": _curl(f"{base}/predict", request),
        **_way_back(events),
        **_docs(serving, request, f"{base}/versions/{live.label}/docs"),
    }


def _way_back(events: Sequence[Event]) -> dict[str, Any]:
    previous, last = last_healthy(events), events[-1]
    if previous is None:
        return {"previous_version": "none: nothing to roll back to"}
    command = f"slipway rollback {last.model} --environment {last.environment}"
    return {
        "previous_version": previous.label,
        "roll_back": dg.MetadataValue.md(f"```\n{command}\n```"),
    }


def _docs(serving: Serving, request: Request, url: str) -> dict[str, Any]:
    """A browser sends no X-Environment: the page of another environment has no link."""
    if request.environment != serving.default_environment:
        return {}
    return {"docs": dg.MetadataValue.url(url)}


def _curl(url: str, request: Request) -> dg.MarkdownMetadataValue:
    """A command that works as it is, with the contract's example."""
    body = json.dumps({"features": request.release.bundle.contract.example})
    command = (
        f"curl -s -X POST {url} -H 'X-Environment: {request.environment}' "
        f"-H 'content-type: application/json' -d {shlex.quote(body)}"
    )
    return dg.MetadataValue.md(f"```\n{command}\n```")
