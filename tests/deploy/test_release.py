from pathlib import Path

import msgspec
import pytest

from bentos.model_server.bundle import Limits, tree_digest
from bentos.model_server.certificate import CertificateError
from deploy.release import Release, ReleaseError
from tests.deploy.releases import certificate, contract, http, release, sha256


def store(home: Path, model: bytes = b"graph") -> str:
    """A Bento in a store, made by hand; returns its tag."""
    made = msgspec.structs.replace(contract(), onnx_sha256=_digest(model))
    source = home / "new" / "src"
    (source / "model").mkdir(parents=True)
    (source / "model" / "model.onnx").write_bytes(model)
    (source / "model" / "contract.json").write_bytes(made.encode())
    (source / "model" / "certificate.json").write_bytes(certificate(made).encode())
    (source / "model" / "serving.json").write_bytes(msgspec.json.encode(Limits()))
    version = f"1-fp32-{tree_digest(source)[:12]}"
    (home / "bentos" / "iris").mkdir(parents=True)
    (home / "new").rename(home / "bentos" / "iris" / version)
    return f"iris:{version}"


def _digest(data: bytes) -> str:
    return sha256(data.decode())


def test_a_bento_is_read_back_from_the_store_with_its_own_certificate(tmp_path: Path) -> None:
    tag = store(tmp_path)
    found = Release.load(tag, tmp_path)
    assert (found.tag, found.model) == (tag, "iris")
    assert found.certificate == found.bundle.certificate
    live = found.live()
    assert (live.version, live.label, live.bento, live.weight) == (1, "1", tag, 100)
    assert live.bento_digest == found.bundle.digest
    assert live.onnx_sha256 == _digest(b"graph")
    assert live.certificate_sha256 == found.certificate.digest()


def test_a_later_certificate_of_the_version_counts_instead(tmp_path: Path) -> None:
    tag = store(tmp_path)
    own = Release.load(tag, tmp_path)
    with pytest.raises(CertificateError, match="no passing smoke test"):
        own.require_certificate("production")
    later = msgspec.structs.replace(own.certificate, http=http(bento=own.bundle.digest))
    Release.load(tag, tmp_path, later).require_certificate("production")


@pytest.mark.parametrize(
    ("file", "data", "words"),
    [
        ("model/model.onnx", b"other", "a file was exchanged"),
        ("model/serving.json", b'{"max_rows": 7}', "were changed after the build"),
        ("more.py", b"import os", "were changed after the build"),
        ("model/contract.json", b"{}", r"contract\.json"),
        ("model/certificate.json", b"{}", r"certificate\.json"),
        ("model/serving.json", b"[", r"serving\.json"),
    ],
)
def test_a_bento_that_was_changed_after_the_build_is_refused(
    file: str, data: bytes, words: str, tmp_path: Path
) -> None:
    tag = store(tmp_path)
    (tmp_path / "bentos" / tag.replace(":", "/") / "src" / file).write_bytes(data)
    with pytest.raises(ReleaseError, match=f"Bento {tag} must not be deployed: .*{words}"):
        Release.load(tag, tmp_path)


def test_a_bento_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="Bento iris:1-fp32-ab must not be deployed"):
        Release.load("iris:1-fp32-ab", tmp_path)


def test_staging_demands_parity_and_every_other_place_a_smoke_test_too() -> None:
    unsmoked = release(proof=certificate(contract()))
    unsmoked.require_certificate("staging")
    for environment in ("production", "canary"):
        with pytest.raises(CertificateError, match="smoke test"):
            unsmoked.require_certificate(environment)
        release().require_certificate(environment)
