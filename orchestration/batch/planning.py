"""What is to be done, decided before a row is read."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from bentos.model_server.contract import version_label
from deploy.release import Release
from orchestration.batch.columns import check_schema
from orchestration.batch.documents import (
    ModelIdentity,
    Plan,
)
from orchestration.batch.errors import OutputError
from orchestration.batch.join_planning import make_join
from orchestration.batch.scorer import batch_rows_for
from orchestration.batch.sources import find_files, make_parts, read_schema
from orchestration.batch.storage_folder import Folder
from serving_config.schema import Configuration

if TYPE_CHECKING:
    from orchestration.batch.job import JobRequest


def make_plan(
    release: Release,
    request: "JobRequest",
    configuration: Configuration,
    features_home: Path,
    begun: Iterable[Plan] = (),
) -> Plan:
    """Everything that can be looked at without reading the rows is looked at: InputError.

    begun: plans of jobs towards the same output, of which this one may be the rest.
    """
    contract = release.bundle.contract
    format_, files = find_files(request.input)
    schema = read_schema(format_, files)
    names = [column.name for column in schema]
    join = make_join(contract, schema, request.timestamp, configuration.features, features_home)
    keys = check_schema(contract, schema, format_, request.keys, join)
    part_rows = configuration.platform.batch.limits.part_rows
    files, parts = make_parts(format_, files, part_rows, begun)
    return Plan(
        model=identity(release),
        input=request.input,
        format=format_,
        files=files,
        schema=schema,
        keys=tuple(name for name in names if name in keys),
        join=join,
        parts=parts,
        part_rows=part_rows,
        batch_rows=batch_rows_for(contract, files),
        scored_at=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def identity(release: Release) -> ModelIdentity:
    """The verified model; CertificateError where parity was not proved for exactly these files."""
    contract, bundle = release.bundle.contract, release.bundle
    release.certificate.require_parity(contract, bundle.onnx_sha256)
    return ModelIdentity(
        model=contract.model,
        version=version_label(contract.version, contract.variant),
        onnx_sha256=bundle.onnx_sha256,
        contract_sha256=contract.digest(),
        certificate_sha256=release.certificate.digest(),
        bento=release.tag,
        bento_digest=bundle.digest,
        run_id=contract.run_id,
    )


def require_apart(request_input: str, plan: Plan, output: Folder) -> None:
    """OutputError where the result would lie among the input's files, or they in it."""
    source = Folder(request_input)
    paths = [Folder(file.path) for file in plan.files]
    if _storage(source) != _storage(output):
        return
    inside = _within(output.path, source.path) or PurePath(
        f"{output.path}/part-00000.parquet"
    ).match(source.path)
    if inside or any(_within(path.path, output.path) for path in paths):
        raise OutputError(
            f"{output.url} and the input {request_input} lie in each other: name another output"
        )


def _storage(folder: Folder) -> str:
    return "" if folder.is_local else folder.url.partition("://")[0]


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
