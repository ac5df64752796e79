"""Where an answer comes from: server → event of the ledger → Bento, certificate, MLflow run."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from bentos.model_server.certificate import Certificate, CertificateError, decode_certificate
from bentos.model_server.contract import Contract, ContractError, decode_contract
from deploy.artifacts.errors import ArtifactsError
from deploy.events import Event, Live
from deploy.gateway.routes import cluster_name
from deploy.history import brought_in, moment_of
from deploy.home import Home
from deploy.versions import MissingFileError, VersionFolder
from serving_config.schema import Configuration

Document = TypeVar("Document")


class EventSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the ledger, in short. at: UTC, ISO 8601."""

    id: int
    action: str
    at: str
    actor: str
    generation: int
    dagster_run: str | None
    reason: str | None


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The certificate that a version was deployed with.

    parity: the graph answers as the trained model; http: the server answers as the graph, None
    before the smoke test. The figures are over all rows; all of it is None where the file is gone.
    """

    sha256: str
    parity: bool | None = None
    http: bool | None = None
    rows: int | None = None
    label_flips: int | None = None
    max_abs_diff: float | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """What served. in_force: the event whose weights held; brought_in: the one since which this
    Bento is live. weight, mirror: percent, then. links: to MLflow and Dagster, by name."""

    environment: str
    model: str
    version: str
    weight: int
    mirror: int
    bento: str
    bento_digest: str
    onnx_sha256: str
    certificate: Proof
    mlflow_run: str | None
    in_force: EventSummary
    brought_in: EventSummary
    links: dict[str, str]


def served_by(
    server: str,
    at: datetime,
    events: Sequence[Event],
    home: Home,
    configuration: Configuration | None = None,
) -> tuple[Deployment | None, tuple[str, ...]]:
    """What that server (the gateway's cluster) served then, and what could not be found out.

    events: all of the ledger. configuration: for the links.
    """
    if (found := _serving(server, at, events)) is None:
        return None, (f"the ledger never had a version behind {server}",)
    event, live = found
    place = (event.environment, event.model)
    own = [item for item in events if (item.environment, item.model) == place]
    first = brought_in(own, event, live.bento_digest)
    certificate, contract, notes = _documents(home, event.model, live)
    deployment = Deployment(
        environment=event.environment,
        model=event.model,
        version=live.label,
        weight=live.weight,
        mirror=live.mirror,
        bento=live.bento,
        bento_digest=live.bento_digest,
        onnx_sha256=live.onnx_sha256,
        certificate=_proof(live, certificate),
        mlflow_run=contract.run_id if contract else None,
        in_force=_summary(event),
        brought_in=_summary(first),
        links=_links(configuration, event.model, live, contract, first) if configuration else {},
    )
    return deployment, notes


def _serving(server: str, at: datetime, events: Sequence[Event]) -> tuple[Event, Live] | None:
    """The last event up to `at` that has the server live; the first one after it where the request
    was on its way before the event was written. A server that leaves answers what it still has."""
    found = None
    for event in events:
        for live in event.live:
            if cluster_name(event.environment, event.model, live) == server:
                if found is not None and moment_of(event) > at:
                    return found
                found = (event, live)
    return found


def _documents(
    home: Home, model: str, live: Live
) -> tuple[Certificate | None, Contract | None, tuple[str, ...]]:
    """The very certificate and contract of the deployment, as far as they are still there."""
    name, _, build = live.bento.partition(":")
    with suppress(MissingFileError, ArtifactsError):  # then what this machine has will do
        VersionFolder.of(home, model, live.label).fetched()
    folders = (
        home.versions / model / live.label,
        home.bentoml / "bentos" / name / build / "src" / "model",
    )
    certificates = _read(folders, "certificate.json", decode_certificate)
    contracts = _read(folders, "contract.json", decode_contract)
    certificate = next((c for c in certificates if c.digest() == live.certificate_sha256), None)
    contract = next((c for c in contracts if c.onnx_sha256 == live.onnx_sha256), None)
    notes: tuple[str, ...] = ()
    if certificate is None:
        notes += ("the certificate is no longer there: the version was verified again, or removed",)
    if contract is None:
        notes += ("the contract is no longer there, so neither is the MLflow run",)
    return certificate, contract, notes


def _read(
    folders: Sequence[Path], name: str, decode: Callable[[bytes], Document]
) -> list[Document]:
    found = []
    for folder in folders:
        with suppress(OSError, CertificateError, ContractError):  # the caller says what is missing
            found.append(decode((folder / name).read_bytes()))
    return found


def _proof(live: Live, certificate: Certificate | None) -> Proof:
    if certificate is None:
        return Proof(sha256=live.certificate_sha256)
    comparisons = certificate.parity.comparisons
    return Proof(
        sha256=live.certificate_sha256,
        parity=certificate.parity_passed,
        http=certificate.http.passed if certificate.http else None,
        rows=sum(item.rows for item in comparisons),
        label_flips=sum(item.label_flips for item in comparisons),
        max_abs_diff=max((item.max_abs_diff for item in comparisons), default=None),
    )


def _summary(event: Event) -> EventSummary:
    reason = event.evidence.get("reason")
    return EventSummary(
        id=event.id,
        action=event.action,
        at=event.at,
        actor=event.actor,
        generation=event.generation,
        dagster_run=event.dagster_run,
        reason=None if reason is None else str(reason),
    )


def _links(
    configuration: Configuration, model: str, live: Live, contract: Contract | None, event: Event
) -> dict[str, str]:
    links = {}
    registry = urlsplit(configuration.platform.mlflow.uri)
    mlflow = registry._replace(netloc=registry.netloc.rpartition("@")[2]).geturl()
    if (settings := configuration.models.get(model)) is not None:
        page = f"#/models/{settings.registered_model}/versions/{live.version}"
        links["mlflow_version"] = f"{mlflow}/{page}"
    if contract is not None and contract.run_id:
        links["mlflow_run"] = f"{mlflow}/#/runs/{contract.run_id}"
    if event.dagster_run:
        links["dagster_run"] = dagster_run_url(configuration, event.dagster_run)
    return links


def dagster_run_url(configuration: Configuration, run: str) -> str:
    """The page of a run in Dagster's UI."""
    return f"{configuration.platform.dagster.url}/runs/{run}"
