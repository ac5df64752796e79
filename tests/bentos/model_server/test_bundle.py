from pathlib import Path

import msgspec
import pytest

from bentos.model_server.bundle import BundleError, bento_digest, read_bundle
from bentos.model_server.certificate import CertificateError
from tests.bentos.model_server.models import Parts


@pytest.fixture
def bento(iris: Parts, tmp_path: Path) -> Path:
    iris.write(tmp_path / "src" / "model")
    (tmp_path / "src" / "code.py").write_text("x = 1\n")
    return tmp_path


def test_a_bundle_has_what_lies_in_the_bento(iris: Parts, bento: Path) -> None:
    bundle = read_bundle(bento)
    assert (bundle.contract, bundle.certificate) == (iris.contract, iris.certificate)
    assert bundle.onnx_sha256 == iris.contract.onnx_sha256
    assert bundle.digest == bento_digest(bento)


def test_an_exchanged_model_is_refused_with_both_digests(iris: Parts, bento: Path) -> None:
    (bento / "src" / "model" / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"has digest d9298a10d1b0\w+, contract.json is for .*"):
        read_bundle(bento)


def test_a_certificate_of_another_model_is_refused(iris: Parts, bento: Path) -> None:
    other = msgspec.structs.replace(iris.certificate, onnx_sha256="f" * 64)
    (bento / "src" / "model" / "certificate.json").write_bytes(other.encode())
    with pytest.raises(BundleError, match=r"certificate\.json is for ffff"):
        read_bundle(bento)
    other = msgspec.structs.replace(iris.certificate, version=4)
    (bento / "src" / "model" / "certificate.json").write_bytes(other.encode())
    with pytest.raises(BundleError, match=r"certificate\.json of \('iris', 4"):
        read_bundle(bento)


def test_a_forged_verdict_is_refused(bento: Path) -> None:
    path = bento / "src" / "model" / "certificate.json"
    path.write_text(path.read_text().replace('"passed": false', '"passed": true'))
    with pytest.raises(CertificateError, match="says passed=True"):
        read_bundle(bento)


def test_the_digest_sees_content_names_and_additional_files(bento: Path) -> None:
    seen = {bento_digest(bento)}
    (bento / "src" / "code.py").write_text("x = 2\n")
    seen.add(bento_digest(bento))
    (bento / "src" / "code.py").rename(bento / "src" / "core.py")
    seen.add(bento_digest(bento))
    (bento / "src" / "more.py").touch()
    seen.add(bento_digest(bento))
    assert len(seen) == 4


def test_the_digest_does_not_see_bytecode_and_build_options(bento: Path) -> None:
    before = bento_digest(bento)
    (bento / "src" / "__pycache__").mkdir()
    (bento / "src" / "__pycache__" / "code.pyc").touch()
    (bento / "src" / "bentofile.yaml").touch()
    assert bento_digest(bento) == before


def test_a_folder_that_is_no_bento_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a Bento"):
        read_bundle(tmp_path)
