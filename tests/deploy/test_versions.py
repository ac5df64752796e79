from pathlib import Path
from typing import Any

import msgspec
import pytest

from bentos.model_server.certificate import Certificate, CertificateError
from bentos.model_server.contract import ContractError
from deploy.home import Home
from deploy.versions import BuiltRelease, MissingFileError, VersionFolder, built_release
from tests.deploy.control.controls import build
from tests.deploy.releases import certificate, contract, http, sha256


@pytest.fixture
def folder(tmp_path: Path) -> VersionFolder:
    return VersionFolder.of(Home(tmp_path), "iris", 3)


def test_what_a_step_wrote_the_next_one_reads(folder: VersionFolder) -> None:
    made = contract(version=3)
    folder.write_export(b"graph", made)
    proof = certificate(made, smoke=http())
    folder.write_certificate(proof)
    folder.write_bento(BuiltRelease("iris:3-fp32-ab", "ab"))
    again = VersionFolder.of(folder.home, "iris", "3")
    assert again.onnx_bytes() == folder.onnx.read_bytes() == b"graph"
    assert again.onnx_sha256() == sha256("graph")
    assert (again.contract(), again.certificate()) == (made, proof)
    assert again.bento() == BuiltRelease("iris:3-fp32-ab", "ab")


def test_looking_at_a_version_makes_no_folder(folder: VersionFolder) -> None:
    with pytest.raises(MissingFileError):
        folder.contract()
    assert not folder.path.exists()
    assert not folder.path.parent.exists()


@pytest.mark.parametrize(
    ("file", "step"),
    [
        ("model.onnx", "onnx_model"),
        ("contract.json", "onnx_model"),
        ("certificate.json", "conversion_parity"),
        ("bento.json", "bento"),
    ],
)
def test_a_missing_file_says_which_step_makes_it(
    file: str, step: str, folder: VersionFolder
) -> None:
    read = {
        "model.onnx": folder.onnx_bytes,
        "contract.json": folder.contract,
        "certificate.json": folder.certificate,
        "bento.json": folder.bento,
    }[file]
    with pytest.raises(MissingFileError) as caught:
        read()
    assert str(caught.value) == (
        f"{folder.path / file} is missing: materialize {step} for this version first"
    )


def test_a_version_that_is_not_built_says_which_are_and_what_builds_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for label in ("2", "10", "2-int8", "notes"):
        VersionFolder.of(home, "iris", label).write_bento(BuiltRelease("iris:x", "ab"))
    said = (
        "iris version 3-int8 is not built here (built: 2, 2-int8, 10): `slipway release iris "
        "--version 3-int8` builds and proves it on the way"
    )
    with pytest.raises(MissingFileError) as caught:
        built_release(home, "iris", "3-int8")
    assert str(caught.value) == said
    with pytest.raises(
        MissingFileError, match=r"no-such version 1 is not built here \(built: none"
    ):
        built_release(home, "no-such", 1)


def test_a_version_without_its_proof_says_so_whatever_was_built_of_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    release = build(home, 3)
    VersionFolder.of(home, "iris", 3).write_export(b"other", release.bundle.contract)
    with pytest.raises(MissingFileError, match=r"iris version 3 was exported anew .*proves it"):
        built_release(home, "iris", 3)


def test_a_new_export_makes_the_old_proof_void(folder: VersionFolder) -> None:
    folder.write_export(b"graph", contract())
    folder.write_certificate(certificate(contract(), smoke=http()))
    folder.write_export(b"other", contract())
    with pytest.raises(MissingFileError, match="conversion_parity"):
        folder.certificate()


def test_an_export_that_fails_half_way_has_no_proof(
    folder: VersionFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_export(b"graph", contract())
    folder.write_certificate(certificate(contract(), smoke=http()))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write_export(b"other", contract())
    assert folder.onnx_bytes() == b"graph"
    with pytest.raises(MissingFileError):
        folder.certificate()


def test_a_file_that_was_changed_is_refused_and_named(folder: VersionFolder) -> None:
    folder.write_export(b"graph", contract())
    (folder.path / "contract.json").write_text("{}")
    with pytest.raises(ContractError, match=r"contract\.json"):
        folder.contract()
    proof = certificate(contract(), flips=1).encode()
    (folder.path / "certificate.json").write_bytes(
        proof.replace(b'"passed": false', b'"passed": true')
    )
    with pytest.raises(CertificateError, match="says passed=True, its figures say False"):
        folder.certificate()


def test_verifying_the_same_graph_again_keeps_its_smoke_test(folder: VersionFolder) -> None:
    made = contract()
    folder.write_export(b"graph", made)
    folder.write_certificate(certificate(made, smoke=http()))
    folder.write_export(b"graph", made)
    written = folder.write_parity(certificate(made))
    assert written.http == http()
    assert folder.certificate() == written


def test_another_graph_starts_without_a_smoke_test(folder: VersionFolder) -> None:
    made = contract()
    folder.write_export(b"graph", made)
    folder.write_certificate(certificate(made, smoke=http()))
    folder.write_export(b"another", made)
    assert folder.write_parity(certificate(made)).http is None


def test_a_variant_that_is_measured_again_keeps_the_figures_that_passed(
    folder: VersionFolder,
) -> None:
    made = contract(variant="int8")
    first = certificate(made, smoke=http())
    assert first.quantization is not None
    folder.write_export(b"graph", made)
    folder.write_certificate(first)

    def again(**figures: Any) -> Certificate:
        proof = msgspec.structs.replace(first.quantization, **figures)
        return folder.write_parity(msgspec.structs.replace(first, quantization=proof, http=None))

    assert again(rows_per_second=1.0, base_rows_per_second=2.0) == first
    flipping = again(label_flips=100)
    assert flipping.quantization is not None
    assert flipping.quantization.label_flips == 100
    assert not folder.certificate().passed
    assert again().passed
