"""`slipway explain-request`: what stands behind one answer."""

import click

from deploy.predictions.requests import LoggedRow
from deploy.provenance import Deployment, EventSummary, Proof
from deploy.receipts import Receipt, receipt
from orchestration.cli.context import existing_ledger, local_platform
from orchestration.cli.output import console, show_json, show_lines

_LONGEST = 500
_VERDICTS = {True: "passed", False: "failed", None: "unknown"}


@click.command("explain-request")
@click.argument("request_id")
@click.option("--json", "as_json", is_flag=True, help="For scripts; a list, newest last.")
def explain_request(request_id: str, as_json: bool) -> None:
    """What stands behind the answer with this X-Request-ID."""
    platform = local_platform()
    with existing_ledger(platform) as ledger:
        found = receipt(platform.home, ledger, request_id, platform.configuration)
    if as_json:
        show_json(found)
        return
    for number, item in enumerate(found):
        if number:
            console.print()
        show_lines(f"request {item.request_id}", _lines(item))


def _lines(item: Receipt) -> list[tuple[str, str]]:
    took = "" if item.duration_ms is None else f" in {item.duration_ms:g} ms"
    lines = [
        ("time", item.time.isoformat()),
        ("asked", f"{item.method or '?'} {item.path or '?'}"),
        ("answer", f"{item.status} by the {item.answered_by}{took}"),
        ("details", item.details or ""),
        ("key", item.caller or ""),
    ]
    if item.deployment is not None:
        lines += _deployment_lines(item.deployment)
    for row in item.logged:
        lines += _row_lines(row)
    if item.logged and (item.rows or 0) > len(item.logged):
        lines.append(("rows", f"{item.rows}; the first {len(item.logged)} are shown"))
    lines += [("note", note) for note in item.notes]
    return [(name, text) for name, text in lines if text]


def _row_lines(row: LoggedRow) -> list[tuple[str, str]]:
    sure = row.probabilities.get(str(row.prediction))
    answer = f"{row.prediction}" + ("" if sure is None else f" ({sure:.4g})")
    features = ", ".join(f"{name}={value}" for name, value in row.features.items())
    return [
        (f"row {row.row}", " ".join(features.split())[:_LONGEST]),
        ("predicted", answer if row.prediction is not None else ""),
        ("entities", row.entities or ""),
        ("looked up", row.lookups or ""),
    ]


def _deployment_lines(found: Deployment) -> list[tuple[str, str]]:
    share = f"{found.weight} % of the traffic"
    version = f"{found.model} {found.version} in {found.environment}, with {share} then"
    return [
        ("version", version),
        ("MLflow run", found.mlflow_run or "unknown"),
        ("ONNX", found.onnx_sha256),
        ("certificate", found.certificate.sha256),
        ("proof", _proof(found.certificate)),
        ("Bento", found.bento),
        ("brought in", _event(found.brought_in)),
        ("weights of", _event(found.in_force)),
        *((name.replace("_", " "), url) for name, url in found.links.items()),
    ]


def _proof(proof: Proof) -> str:
    verdicts = f"parity {_VERDICTS[proof.parity]}, over HTTP {_VERDICTS[proof.http]}"
    if proof.rows is None:
        return verdicts
    return f"{verdicts}; {proof.rows} rows, {proof.label_flips} label flips"


def _event(event: EventSummary) -> str:
    run = f", Dagster run {event.dagster_run}" if event.dagster_run else ""
    reason = f": {' '.join(event.reason.split())}" if event.reason else ""
    return f"event {event.id} ({event.action}) by {event.actor} at {event.at}{run}{reason}"
