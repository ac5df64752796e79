"""What stands in the manifest when all parts are done."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from bentos.model_server.contract import Contract
from orchestration.batch.documents import Manifest, PartFile, Plan
from orchestration.batch.errors import BatchError
from orchestration.batch.part_file import PartWriter
from orchestration.batch.progress import Progress
from orchestration.batch.scorer import Scorer
from orchestration.batch.tally import distribution, reasons
from orchestration.batch.work import Work

if TYPE_CHECKING:
    from orchestration.batch.job import JobRequest

_LIBRARIES = ("numpy", "onnxruntime", "pyarrow")


def make_manifest(
    plan: Plan,
    progress: Progress,
    request: "JobRequest",
    work: Work,
    contract: Contract,
    model: bytes,
) -> Manifest:
    """BatchError unless every row of the input is either scored or rejected, once.

    A result without a row gets a file without one, so that its readers find the columns.
    """
    receipts = [progress.receipts[part.index] for part in plan.parts]
    now = progress.now()
    if now.rows_in != now.rows_out + now.rejects or now.rows_total not in (None, now.rows_in):
        raise BatchError(
            f"{now.rows_total} rows became {now.rows_out} scored and {now.rejects} rejected ones; "
            "this is a defect"
        )
    files = [receipt.file for receipt in receipts if receipt.file is not None]
    libraries = (*_LIBRARIES, "ray") if request.engine == "ray" else _LIBRARIES
    return Manifest(
        job=plan.work_digest,
        engine=request.engine,
        model=plan.model,
        input=plan.input,
        format=plan.format,
        inputs=plan.files,
        output=request.output,
        keys=plan.keys,
        join=plan.join,
        rows_in=now.rows_in,
        rows_out=now.rows_out,
        rejects=now.rejects,
        reasons=reasons(receipts),
        files=tuple(files) or (_empty(plan, work, contract, model),),
        rejects_files=tuple(r.rejects_file for r in receipts if r.rejects_file is not None),
        distribution=distribution(receipts),
        scored_at=plan.scored_at,
        finished_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        seconds=now.seconds,
        resumed_parts=progress.resumed_parts,
        libraries={name: version(name) for name in libraries},
        actor=request.actor,
        dagster_run=request.dagster_run,
    )


def _empty(plan: Plan, work: Work, contract: Contract, model: bytes) -> PartFile:
    schema = Scorer(plan, contract, model).output_schema
    with PartWriter(work.result, "part-00000.parquet", schema) as writer:
        file = writer.close(empty=True)
    if file is None:
        raise BatchError("an empty result was not written")
    return file
