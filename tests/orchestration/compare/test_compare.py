"""Two real models in a home, compared by the functions and by the command."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from bentos.model_server.contract import version_label
from bentos.model_server.session import Predictions
from deploy.home import Home
from deploy.platform import LocalPlatform
from deploy.versions import BuiltRelease, VersionFolder
from orchestration.cli.main import cli
from orchestration.compare import comparison, speed
from orchestration.compare.answers import agreement
from orchestration.compare.documents import CompareError
from orchestration.compare.page import about, write_page
from serving_config.load import FOLDER, load
from tests.bentos.model_server.models import IRIS, SPECIES, Parts, iris

RUN = "a3f5"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed.speeds, "__kwdefaults__", {"rounds": 3, "turn_seconds": 0.002})


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalPlatform:
    """Not up. Versions 1 and 2 of iris, of which 2 has its species the wrong way round."""
    home = Home(tmp_path / "h").create()
    for number, turned in ((1, False), (2, True)):
        build(home, iris(version=number, turned=turned))
    monkeypatch.setenv("SLIPWAY_HOME", str(home.root))
    return LocalPlatform(home, load(FOLDER, {}), FOLDER)


def build(home: Home, parts: Parts) -> VersionFolder:
    contract = msgspec.structs.replace(parts.contract, run_id=RUN)
    proof = msgspec.structs.replace(parts.certificate, contract_sha256=contract.digest())
    label = version_label(contract.version, contract.variant)
    folder = VersionFolder.of(home, contract.model, label)
    folder.write_export(parts.onnx, contract)
    folder.write_certificate(proof)
    folder.write_bento(BuiltRelease("iris:1-fp32-abc", "abc"))
    return folder


@pytest.fixture
def hold_out(platform: LocalPlatform) -> pd.DataFrame:
    """As the platform's own MLflow keeps what a training run held out."""
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    frame = pd.DataFrame(x, columns=list(IRIS)).assign(label=[SPECIES[i] for i in y])
    keep(platform, frame, "holdout")
    return frame


@pytest.fixture
def reference(platform: LocalPlatform, hold_out: pd.DataFrame) -> None:
    """The same rows without their labels."""
    keep(platform, hold_out.drop(columns="label"), "reference")
    (artifacts(platform) / "holdout" / "holdout.parquet").unlink()


def keep(platform: LocalPlatform, frame: pd.DataFrame, name: str) -> None:
    path = artifacts(platform) / name
    path.mkdir(parents=True)
    frame.to_parquet(path / f"{name}.parquet")


def artifacts(platform: LocalPlatform) -> Path:
    return platform.home.mlflow / "artifacts" / "1" / RUN / "artifacts"


def test_quality_is_measured_on_the_labels_that_were_held_out(
    platform: LocalPlatform, hold_out: pd.DataFrame
) -> None:
    found = comparison.compare(platform, "iris", "1", "2").result
    assert (found.truth, found.rows, found.left_out) == ("labels", len(hold_out), 0)
    assert found.source == "the rows held out by the training run of version 2"
    right, wrong = found.a.quality["accuracy"], found.b.quality["accuracy"]
    assert right is not None
    assert wrong is not None
    assert right > 0.9 > wrong
    assert found.agreement.equal_labels is not None
    assert found.agreement.equal_labels < 0.9


@pytest.mark.usefixtures("reference")
def test_without_labels_it_is_the_newer_trained_model_that_is_right(
    platform: LocalPlatform,
) -> None:
    found = comparison.compare(platform, "iris", "2", "1").result
    assert (found.truth, found.truth_of) == ("model", "2")
    assert found.a.quality["accuracy"] == 1.0
    assert found.b.quality["accuracy"] == found.agreement.equal_labels
    assert found.source == "the reference by the training run of version 2"


def test_made_up_rows_tell_agreement_and_speed_but_no_quality(platform: LocalPlatform) -> None:
    found = comparison.compare(platform, "iris", "2", "1").result
    assert (found.truth, found.a.quality, found.b.quality) == ("none", {}, {})
    assert found.agreement.equal_labels is not None
    assert found.agreement.equal_labels < 0.9
    assert [speed.batch_size for speed in found.speed] == [1, 32, 256]
    assert "log reference/reference.parquet" in about(found)


@pytest.mark.usefixtures("reference")
def test_a_variant_is_held_against_the_trained_model_that_it_was_made_of(
    platform: LocalPlatform,
) -> None:
    build(platform.home, iris(version=2, variant="int8", turned=True))
    for labels in (("2-int8", "2"), ("2-int8", "1"), ("1", "2-int8")):
        found = comparison.compare(platform, "iris", *labels).result
        assert (found.a.label, found.b.label) == labels
        assert found.truth_of == "2"
        variant = found.a if labels[0] == "2-int8" else found.b
        assert variant.quality["accuracy"] == 1.0


@pytest.mark.usefixtures("reference")
def test_a_version_that_was_rebuilt_with_other_inputs_is_not_asked_about_its_variant_s_rows(
    platform: LocalPlatform,
) -> None:
    parts = iris(version=2, turned=True)
    build(platform.home, iris(version=2, variant="int8", turned=True))
    rebuilt = msgspec.structs.replace(parts.contract, inputs=parts.contract.inputs[::-1])
    build(platform.home, replace(parts, contract=rebuilt))
    found = comparison.compare(platform, "iris", "1", "2-int8").result
    assert found.truth_of == "2-int8"
    assert found.b.quality["accuracy"] == 1.0


def test_a_version_agrees_with_a_copy_of_itself_to_the_last_bit(platform: LocalPlatform) -> None:
    parts = iris(version=1)
    contract = msgspec.structs.replace(parts.contract, version=3)
    proof = msgspec.structs.replace(parts.certificate, version=3, contract_sha256=contract.digest())
    build(platform.home, replace(parts, contract=contract, certificate=proof))
    found = comparison.compare(platform, "iris", "1", "3").result
    assert msgspec.to_builtins(found.agreement) == {
        "equal_labels": 1.0,
        "mean_difference": 0.0,
        "max_difference": 0.0,
    }


def test_rows_that_one_of_them_refuses_are_left_out_for_both(
    platform: LocalPlatform, hold_out: pd.DataFrame
) -> None:
    folder = VersionFolder.of(platform.home, "iris", 1)
    parts = Parts(folder.onnx_bytes(), folder.contract(), folder.certificate())
    first = msgspec.structs.replace(parts.contract.inputs[0], maximum=5.0)
    contract = msgspec.structs.replace(parts.contract, inputs=(first, *parts.contract.inputs[1:]))
    build(platform.home, replace(parts, contract=contract))
    found = comparison.compare(platform, "iris", "1", "2").result
    assert found.rows == int((hold_out[IRIS[0]] <= 5.0).sum())
    assert found.left_out == len(hold_out) - found.rows


def test_probabilities_are_compared_by_class_not_by_place() -> None:
    a = Predictions(["x", "y"], np.array([[0.9, 0.1], [0.2, 0.8]]))
    b = Predictions(["x", "y"], np.array([[0.1, 0.9], [0.7, 0.3]]))
    outputs = iris().contract.outputs
    first = msgspec.structs.replace(outputs, labels=("x", "y"))
    second = msgspec.structs.replace(outputs, labels=("y", "x"))
    found = agreement(a, b, (first, second))
    assert found.equal_labels == 1.0
    assert found.max_difference == pytest.approx(0.1)


def test_the_ratio_of_rounds_is_of_b_to_a(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of A takes 1 ms, one of B 0.05 ms, and each tenth one three times as long."""
    calls = itertools.count()
    clock = SimpleNamespace(now=0)
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter_ns=lambda: clock.now))

    def work(nanoseconds: int) -> Callable[[Any], None]:
        def call(rows: Any) -> None:
            clock.now += nanoseconds * (3 if next(calls) % 10 == 0 else 1)

        return call

    found = speed.speeds((work(10**6), [[0]]), (work(50_000), [[0]]), rounds=3, turn_seconds=0.02)
    assert [s.batch_size for s in found] == [1, 32, 256]
    for one in found:
        low, middle, high = one.ratio
        assert 15 < low <= middle <= high < 25
        assert one.p50_ms == (1.0, 0.05)
        assert [round(ms, 6) for ms in one.p99_ms] == [3.0, 0.15]
        assert one.rows_per_second[0] == pytest.approx(one.batch_size * 1000 / 1.2, rel=0.1)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("1", "1"), "1 and 1 are the same version; built: 1, 2"),
        (("1", "9"), "iris has no version 9 here; built: 1, 2"),
        (("1", "2-int4"), "'2-int4' is none: write 3, or 3-int8"),
        (("1", "3"), "version 3 of iris is not built: `slipway release iris --version 3`"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    platform: LocalPlatform, labels: tuple[str, str], words: str
) -> None:
    (platform.home.versions / "iris" / "3").mkdir()
    with pytest.raises(CompareError) as raised:
        comparison.compare(platform, "iris", *labels)
    assert words in str(raised.value)


def test_an_exchanged_model_is_not_compared(platform: LocalPlatform) -> None:
    folder = VersionFolder.of(platform.home, "iris", 1)
    folder.onnx.write_bytes(iris(version=2, turned=True).onnx)
    with pytest.raises(CompareError, match="the file was exchanged"):
        comparison.compare(platform, "iris", "1", "2")


def test_the_command_prints_json_and_writes_a_page_that_needs_nothing_else(
    platform: LocalPlatform, hold_out: pd.DataFrame
) -> None:
    called = CliRunner().invoke(cli, ["compare", "iris", "v1", "2", "--json"])
    assert called.exit_code == 0, called.output
    document = json.loads(called.stdout)
    assert document["a"]["label"] == "1"
    page = Path(document["page"])
    assert page.parent == platform.home.reports / "compare"
    text = page.read_text()
    assert "roc_auc" in text
    assert "src=" not in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_a_title_cannot_break_the_page(platform: LocalPlatform, tmp_path: Path) -> None:
    found = comparison.compare(platform, "iris", "1", "2")
    named = msgspec.structs.replace(found.result, source="<script>alert(1)</script>")
    assert "<script>" not in write_page(tmp_path, named, found.scores).read_text()
