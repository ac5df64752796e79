"""Two built versions on the same rows."""

from dataclasses import dataclass
from typing import Any

from bentos.model_server.session import Predictions
from deploy.platform import LocalPlatform
from deploy.versions import built_labels
from orchestration.compare.answers import Floats, agreement, quality, scores
from orchestration.compare.documents import CompareError, Comparison, Side
from orchestration.compare.rows import Table, common_rows, known_rows
from orchestration.compare.speed import speeds
from orchestration.compare.versions import Built, built_version
from orchestration.monitoring.contest import predict_all


@dataclass(frozen=True)
class Compared:
    """scores: of both, row by row, for the picture; None where they have nothing in common."""

    result: Comparison
    scores: tuple[Floats, Floats] | None


def compare(platform: LocalPlatform, model: str, a: str, b: str) -> Compared:
    """Two labels of versions that are built here. CompareError says what is in the way."""
    if a == b:
        listed = ", ".join(built_labels(platform.home, model)) or "none"
        raise CompareError(f"{a} and {b} are the same version; built: {listed}")
    sides = built_version(platform.home, model, a), built_version(platform.home, model, b)
    newer = max(sides, key=lambda side: side.number)
    table = known_rows(platform, newer)
    trained = None if table.labelled or table.made_up else _trained(platform, model, newer)
    return compare_built(model, sides, table, trained)


def _trained(platform: LocalPlatform, model: str, newer: Built) -> Built:
    """The graph that was proved equal to the trained model, where it is built and takes the same
    rows: it may have been rebuilt since."""
    try:
        found = built_version(platform.home, model, str(newer.number))
    except CompareError:
        return newer
    return found if found.contract.inputs == newer.contract.inputs else newer


def compare_built(
    model: str, sides: tuple[Built, Built], table: Table, trained: Built | None
) -> Compared:
    """trained: whose answers count as right where the table has no labels; None: nothing does."""
    first, second = sides
    kinds = {side.contract.outputs.kind for side in sides}
    if len(kinds) > 1:
        raise CompareError(
            f"{first.label} is a {first.contract.outputs.kind}, {second.label} a "
            f"{second.contract.outputs.kind}: they cannot be compared"
        )
    rows = common_rows(first, second, table)
    answers = predict_all(first.session, rows.a), predict_all(second.session, rows.b)
    right = rows.labels
    if trained is not None:
        right = _answers_of(trained, sides, answers, (rows.a, rows.b))
    outputs = first.contract.outputs, second.contract.outputs
    described = [
        Side(
            label=side.label,
            onnx_sha256=side.contract.onnx_sha256,
            size_bytes=side.size_bytes,
            quality={} if right is None else quality(right, given, side.contract.outputs),
        )
        for side, given in zip(sides, answers, strict=True)
    ]
    result = Comparison(
        model=model,
        a=described[0],
        b=described[1],
        source=table.source,
        truth="model" if trained else "none" if right is None else "labels",
        truth_of=trained.label if trained else "",
        rows=len(rows.a),
        left_out=rows.left_out,
        agreement=agreement(*answers, outputs),
        speed=speeds((first.session.predict, rows.a), (second.session.predict, rows.b)),
    )
    return Compared(result, scores(*answers, outputs))


def _answers_of(
    trained: Built,
    sides: tuple[Built, Built],
    answers: tuple[Predictions, Predictions],
    rows: tuple[list[Any], list[Any]],
) -> list[Any]:
    for side, given in zip(sides, answers, strict=True):
        if side.label == trained.label:
            return given.labels
    # a third graph: the fp32 one of the newer version's variant, which takes the same rows
    place = 0 if sides[0].number == trained.number else 1
    return predict_all(trained.session, rows[place]).labels
