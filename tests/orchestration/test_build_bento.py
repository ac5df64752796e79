import importlib.metadata
import os
import time
from pathlib import Path

import msgspec
import pytest

from bentos.model_server.bundle import BundleError, Limits, bento_digest, read_bundle
from bentos.model_server.bundle import LoggedColumns as Masked
from bentos.model_server.certificate import CertificateError, HttpParity
from bentos.model_server.contract import ContractError, Entity, FeatureSource
from orchestration import bento_builder
from orchestration import build_bento as module
from orchestration.bento_builder import redis_requirements
from orchestration.build_bento import (
    BuildError,
    BuiltBento,
    bento_tag,
    build_bento,
)
from serving_config.predictions import LoggedColumns
from serving_config.schema import Serving
from tests.bentos.model_server import models

replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def iris() -> models.Parts:
    return models.iris()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def built(iris: models.Parts, home: Path) -> BuiltBento:
    return build_bento(iris.write(home / "model"), Serving(max_rows=7), home)


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing should have been built")

    monkeypatch.setattr(bento_builder, "_run_child", refuse)


def test_the_tag_names_model_version_variant_and_digest(built: BuiltBento) -> None:
    assert built.tag == f"iris:3-fp32-{built.digest[:12]}"
    assert built.path.name == built.tag.partition(":")[2]
    assert 10_000 < built.size_bytes < 1_000_000


def test_the_bento_holds_what_was_asked_for(built: BuiltBento, iris: models.Parts) -> None:
    bundle = read_bundle(built.path)
    assert (bundle.contract, bundle.certificate) == (iris.contract, iris.certificate)
    assert bundle.limits == Limits(max_rows=7)
    assert bundle.digest == bento_digest(built.path) == built.digest


def test_the_bento_holds_code_model_and_pinned_packages_alone(built: BuiltBento) -> None:
    source = built.path / "src"
    names = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    code = {name for name in names if name.startswith("bentos/")}
    assert {"bentos/model_server/service.py", "bentos/prediction_log/writer.py"} <= code
    assert all(name.endswith(".py") for name in code)
    assert names - code == {
        "bentofile.yaml",
        "model/certificate.json",
        "model/contract.json",
        "model/model.onnx",
        "model/serving.json",
        "requirements.txt",
    }
    pins = (source / "requirements.txt").read_text().splitlines()
    assert [pin.partition("==")[0] for pin in pins] == [
        *("bentoml", "httptools", "msgspec", "numpy"),
        *("onnxruntime", "prometheus-client", "starlette", "uvloop"),
    ]
    assert "onnxruntime==" in (built.path / "env" / "python" / "requirements.txt").read_text()


def test_a_model_with_a_cache_brings_the_client_of_redis_where_the_platform_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = importlib.metadata.version
    assert redis_requirements() == [f"{name}=={version(name)}" for name in ("hiredis", "redis")]

    def not_installed(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    assert redis_requirements() == []


@pytest.mark.usefixtures("no_child")
def test_a_masked_column_that_the_model_does_not_have_is_refused(
    iris: models.Parts, tmp_path: Path
) -> None:
    logged = LoggedColumns(never=("sepal_length",), hashed=("petal_lenght",))
    with pytest.raises(BundleError, match=r"'petal_lenght', which is none of .* sepal_length, "):
        build_bento(iris.write(tmp_path / "model"), Serving(), tmp_path, logged)


def test_an_entity_key_may_be_masked(iris: models.Parts) -> None:
    source = FeatureSource("iris", (Entity("garden", "string"),), ("petal_width",))
    contract = msgspec.structs.replace(iris.contract, feature_source=source)
    Limits(prediction_log=Masked(hashed=("garden", "petal_width"))).prediction_log.require_known(
        contract
    )


@pytest.mark.usefixtures("no_child")
def test_the_same_inputs_find_the_same_bento_again(
    built: BuiltBento, iris: models.Parts, home: Path, tmp_path: Path
) -> None:
    started = time.perf_counter()
    assert build_bento(iris.write(tmp_path), Serving(max_rows=7), home) == built
    assert time.perf_counter() - started < 2


def test_the_same_inputs_give_the_same_digest_in_another_home(
    built: BuiltBento, iris: models.Parts, tmp_path: Path
) -> None:
    other = build_bento(iris.write(tmp_path / "model"), Serving(max_rows=7), tmp_path)
    assert (other.tag, other.digest) == (built.tag, built.digest)
    assert other.path.is_relative_to(tmp_path)


def test_a_bento_that_was_tampered_with_or_half_written_is_built_again(
    built: BuiltBento, iris: models.Parts, home: Path, tmp_path: Path
) -> None:
    (built.path / "src" / "bentos" / "model_server" / "codec.py").write_text("")
    (built.path / "bento.yaml").unlink()
    again = build_bento(iris.write(tmp_path), Serving(max_rows=7), home)
    assert again == built
    assert bento_digest(built.path) == built.digest
    assert (built.path / "bento.yaml").is_file()


def test_other_limits_another_model_and_other_packages_give_other_tags(
    built: BuiltBento, iris: models.Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):  # noqa: N818
        """What the child would have been asked to build."""

    def ask(context: Path, home: Path, name: str, version: str) -> None:
        raise Asked(f"{name}:{version}")

    def tag(parts: models.Parts, serving: Serving, never: tuple[str, ...] = ()) -> str:
        with pytest.raises(Asked) as asked:
            build_bento(parts.write(tmp_path), serving, tmp_path, LoggedColumns(never=never))
        return str(asked.value)

    monkeypatch.setattr(bento_builder, "_run_child", ask)
    assert tag(iris, Serving(max_rows=7)) == built.tag
    tags = {built.tag, tag(iris, Serving(max_rows=8)), tag(models.iris("float64"), Serving())}
    tags.add(tag(iris, Serving(max_rows=7), never=("sepal_length",)))
    monkeypatch.setattr(module, "requirements", lambda _: ["bentoml==0"])
    tags.add(tag(iris, Serving(max_rows=7)))
    assert len(tags) == 5


@pytest.mark.usefixtures("no_child")
def test_a_model_that_a_server_would_refuse_is_not_built(
    iris: models.Parts, tmp_path: Path
) -> None:
    def refused(parts: models.Parts, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            build_bento(parts.write(tmp_path), Serving(), tmp_path)

    onnx, contract, certificate = iris.onnx, iris.contract, iris.certificate
    unproved = replace(certificate, parity=replace(certificate.parity, comparisons=()))
    refused(models.Parts(b"other", contract, certificate), CertificateError, "was exchanged")
    refused(models.Parts(onnx, contract, unproved), CertificateError, "did not pass")
    other = replace(contract, onnx_sha256="f" * 64)
    refused(models.Parts(onnx, other, certificate), CertificateError, "not the one that was ver")
    proved = replace(certificate, contract_sha256=other.digest())
    refused(models.Parts(onnx, other, proved), BundleError, r"contract\.json is for fff")
    example = replace(contract, example={"sepal_length": 1})
    proved = replace(certificate, contract_sha256=example.digest())
    refused(models.Parts(onnx, example, proved), ContractError, "its own example")


@pytest.mark.usefixtures("no_child")
def test_labels_that_were_exchanged_in_the_contract_are_refused(
    iris: models.Parts, tmp_path: Path
) -> None:
    outputs = replace(iris.contract.outputs, labels=iris.contract.outputs.labels[::-1])
    turned = replace(iris.contract, outputs=outputs)
    with pytest.raises(CertificateError, match="not the one that was verified"):
        build_bento(
            models.Parts(iris.onnx, turned, iris.certificate).write(tmp_path), Serving(), tmp_path
        )


def test_a_smoke_test_of_an_earlier_build_changes_nothing_of_the_bento(
    iris: models.Parts, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    first = build_bento(iris.write(tmp_path / "first"), Serving(), home)
    smoke = HttpParity("http://127.0.0.1/models/iris", first.digest, 1, 0, 1, 0, 1, 1, 1.0, 2.0)
    tested = replace(iris.certificate, http=smoke)
    again = models.Parts(iris.onnx, iris.contract, tested).write(tmp_path / "again")
    assert build_bento(again, Serving(), home) == first


@pytest.mark.usefixtures("no_child")
def test_a_missing_file_is_named(iris: models.Parts, tmp_path: Path) -> None:
    folder = iris.write(tmp_path)
    (folder / "certificate.json").unlink()
    with pytest.raises(BundleError, match=r"certificate\.json: No such file"):
        build_bento(folder, Serving(), tmp_path)


def test_a_tag_that_bentoml_would_change_is_refused(iris: models.Parts) -> None:
    assert bento_tag(iris.contract, "ab" * 32) == ("iris", "3-fp32-abababababab")
    for name in ("Iris", "my model", "x" * 64, "-x"):
        with pytest.raises(BuildError, match="cannot be in a Bento's tag"):
            bento_tag(replace(iris.contract, model=name), "ab" * 32)


def test_a_failing_child_is_one_sentence_with_its_last_line(
    iris: models.Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SERVICE", "bentos.model_server.service:nothing")
    with pytest.raises(BuildError) as caught:
        build_bento(iris.write(tmp_path / "model"), Serving(), tmp_path / "home")
    message = str(caught.value)
    assert message.startswith("bentoml build of iris:3-fp32-")
    assert "nothing" in message
    assert "\n" not in message
    assert not list((tmp_path / "home").rglob("bentoml_bento_*"))


def test_a_build_that_takes_too_long_is_ended(
    iris: models.Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bento_builder, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(BuildError, match=r"was not done after 0\.2 s"):
        build_bento(iris.write(tmp_path / "model"), Serving(), tmp_path / "home")


def test_a_disk_that_cannot_be_written_is_one_sentence(iris: models.Parts, tmp_path: Path) -> None:
    folder = iris.write(tmp_path / "model")
    (tmp_path / "home").touch()
    with pytest.raises(BuildError, match=r"of iris version 3 cannot be written: .*home"):
        build_bento(folder, Serving(), tmp_path / "home")


def test_a_full_disk_is_one_sentence(
    iris: models.Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), "/full/disk")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(BuildError, match="No space left on device: /full/disk"):
        build_bento(iris.write(tmp_path / "model"), Serving(), tmp_path / "home")
