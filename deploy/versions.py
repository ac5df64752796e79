"""The files of one model version: what the steps of the lifecycle hand on."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bentos.model_server.certificate import (
    Certificate,
    CertificateError,
    Golden,
    decode_certificate,
)
from bentos.model_server.contract import Contract, decode_contract, parse_label
from bentos.model_server.quantization import Quantization
from deploy.challenge import Challenge, decode_challenge
from deploy.events import Live
from deploy.home import Home, write_atomically
from deploy.release import Release, ReleaseError


class MissingFileError(FileNotFoundError):
    """An earlier step has not run for this version."""


class BuiltRelease(msgspec.Struct, frozen=True):
    """`bento.json`: the Bento that was built of this version."""

    tag: str
    digest: str


def _proved(certificate: Certificate) -> tuple[str, str, Golden]:
    """What a smoke test is about."""
    return certificate.onnx_sha256, certificate.contract_sha256, certificate.golden


def _first_measured(before: Certificate, after: Certificate) -> Quantization | None:
    first, now = before.quantization, after.quantization
    if first is None or now is None or not first.passed:
        return now
    as_first = msgspec.structs.replace(
        now,
        rows_per_second=first.rows_per_second,
        base_rows_per_second=first.base_rows_per_second,
    )
    return first if as_first == first else now


@dataclass(frozen=True)
class VersionFolder:
    """`<versions>/<model>/<label>/`. Every file is replaced by rename, never half-written."""

    path: Path

    @classmethod
    def of(cls, versions: Path, model: str, version: int | str) -> "VersionFolder":
        """The folder of one version; it is made when the first file is written."""
        return cls(versions / model / str(version))

    @property
    def onnx(self) -> Path:
        """The exported graph."""
        return self.path / "model.onnx"

    def _read(self, name: str, step: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError as error:
            raise MissingFileError(
                f"{self.path / name} is missing: materialize {step} for this version first"
            ) from error

    def _write(self, name: str, data: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / name, data)

    def onnx_bytes(self) -> bytes:
        """The exported graph."""
        return self._read("model.onnx", "onnx_model")

    def onnx_sha256(self) -> str:
        """The digest of the file as it is now."""
        return hashlib.sha256(self.onnx_bytes()).hexdigest()

    def contract(self) -> Contract:
        """The contract that was exported with the graph."""
        return decode_contract(self._read("contract.json", "onnx_model"))

    def certificate(self) -> Certificate:
        """The certificate, which knows of the smoke test once that ran."""
        return decode_certificate(self._read("certificate.json", "conversion_parity"))

    def challenge(self) -> Challenge:
        """How the version did against the one in production."""
        return decode_challenge(self._read("challenger.json", "better_than_production"))

    def bento(self) -> BuiltRelease:
        """The Bento that was built last."""
        return msgspec.json.decode(self._read("bento.json", "bento"), type=BuiltRelease)

    def write_export(self, onnx: bytes, contract: Contract) -> None:
        """Another graph or contract makes what was proved of the one before void."""
        contract_file = self.path / "contract.json"
        old = [path.read_bytes() for path in (self.onnx, contract_file) if path.exists()]
        if old != [onnx, contract.encode()]:
            for proof in ("certificate.json", "challenger.json"):
                (self.path / proof).unlink(missing_ok=True)
        self._write("model.onnx", onnx)
        self._write("contract.json", contract.encode())

    def write_parity(self, certificate: Certificate) -> Certificate:
        """Write a certificate that knows of no smoke test, and return what was written.

        The smoke test of the very same graph and golden rows stays proved. What a variant gains
        comes out otherwise each time it is measured: the first figures that passed stay, so that
        the same graph gives the same Bento.
        """
        try:
            before = self.certificate()
        except (MissingFileError, CertificateError):
            before = None
        if before is not None and _proved(before) == _proved(certificate):
            certificate = msgspec.structs.replace(
                certificate, http=before.http, quantization=_first_measured(before, certificate)
            )
        self.write_certificate(certificate)
        return certificate

    def write_certificate(self, certificate: Certificate) -> None:
        """Replace the certificate."""
        self._write("certificate.json", certificate.encode())

    def write_challenge(self, challenge: Challenge) -> None:
        """Replace what is known of the version against the one in production."""
        self._write("challenger.json", challenge.encode())

    def write_bento(self, built: BuiltRelease) -> None:
        """Remember the Bento."""
        self._write("bento.json", msgspec.json.encode(built))


def built_release(home: Home, model: str, version: int | str) -> Release:
    """The Bento that was built of the version, with the version's latest certificate.

    Raises MissingFileError where it was not built or not proved, ReleaseError where it was changed
    since.
    """
    folder = VersionFolder.of(home.versions, model, version)
    fix = f"`slipway release {model} --version {version}` builds and proves it on the way"
    try:
        built = folder.bento()
    except MissingFileError as error:
        listed = ", ".join(built_labels(home, model)) or "none"
        raise MissingFileError(
            f"{model} version {version} is not built here (built: {listed}): {fix}"
        ) from error
    try:
        certificate = folder.certificate()
    except MissingFileError as error:
        raise MissingFileError(
            f"{model} version {version} was exported anew and is not proved yet: {fix}"
        ) from error
    release = Release.load(built.tag, home.bentoml, certificate)
    if release.bundle.digest != built.digest:
        raise ReleaseError(
            f"Bento {built.tag} has digest {release.bundle.digest[:12]}, "
            f"{built.digest[:12]} was built; materialize the bento asset again"
        )
    return release


def built_labels(home: Home, model: str) -> list[str]:
    """Versions and variants of which a Bento was built, the oldest first."""
    found = []
    for bento in (home.versions / model).glob("*/bento.json"):
        with suppress(ValueError):  # not a version's folder
            found.append((parse_label(bento.parent.name), bento.parent.name))
    return [label for _, label in sorted(found)]


def live_release(home: Home, live: Live) -> Release:
    """The release that a live version was, with the version's latest certificate.

    Raises MissingFileError without a certificate, ReleaseError where the Bento is gone or is not
    the one on the ledger any more.
    """
    model = live.bento.partition(":")[0]
    certificate = VersionFolder.of(home.versions, model, live.label).certificate()
    release = Release.load(live.bento, home.bentoml, certificate)
    if release.bundle.digest != live.bento_digest:
        raise ReleaseError(
            f"Bento {live.bento} has digest {release.bundle.digest[:12]}, "
            f"{live.bento_digest[:12]} was released; promote another version instead"
        )
    return release
