"""The files of one model version: what the steps of the lifecycle hand on.

With a store of artifacts each step may run on another machine: what is written is published, and
what is read is what was published last.
"""

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
from deploy.artifacts.bentos import publish_bento
from deploy.artifacts.blobs import sha256
from deploy.artifacts.files import VersionFiles
from deploy.artifacts.store import artifacts_of
from deploy.artifacts.versions import labels
from deploy.challenge import Challenge, decode_challenge
from deploy.events import Live
from deploy.home import Home
from deploy.release import Release, bring

# What a Bento is built of, and which step makes it.
_PROVED = (
    ("model.onnx", "onnx_model"),
    ("contract.json", "onnx_model"),
    ("certificate.json", "conversion_parity"),
)


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

    home: Home
    model: str
    label: str

    @classmethod
    def of(cls, home: Home, model: str, version: int | str) -> "VersionFolder":
        """The folder of one version; it is made when the first file is written."""
        return cls(home, model, str(version))

    @property
    def path(self) -> Path:
        """The folder on this machine."""
        return self.home.versions / self.model / self.label

    @property
    def onnx(self) -> Path:
        """The exported graph."""
        return self.path / "model.onnx"

    @property
    def _files(self) -> VersionFiles:
        return VersionFiles(self.path, artifacts_of(self.home))

    def _read(self, name: str, step: str) -> bytes:
        data = self._files.read(name)
        if data is None:
            raise MissingFileError(
                f"{self.path / name} is missing: materialize {step} for this version first"
            )
        return data

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._files.digest(name) is not None

    def onnx_bytes(self) -> bytes:
        """The exported graph."""
        return self._read("model.onnx", "onnx_model")

    def onnx_sha256(self) -> str:
        """The digest of the file as it is now."""
        return sha256(self.onnx_bytes())

    def contract(self) -> Contract:
        """The contract that was exported with the graph."""
        return decode_contract(self.contract_bytes())

    def contract_bytes(self) -> bytes:
        """The contract as it stands."""
        return self._read("contract.json", "onnx_model")

    def fetched(self) -> Path:
        """The folder, with graph, contract and certificate in it as they count now."""
        for name, step in _PROVED:
            self._read(name, step)
        return self.path

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
        files = {"model.onnx": onnx, "contract.json": contract.encode()}
        same = all(self._files.digest(name) == sha256(data) for name, data in files.items())
        self._files.write(files, () if same else ("certificate.json", "challenger.json"))

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
        self._files.write({"certificate.json": certificate.encode()})

    def write_challenge(self, challenge: Challenge) -> None:
        """Replace what is known of the version against the one in production."""
        self._files.write({"challenger.json": challenge.encode()})

    def write_bento(self, built: BuiltRelease) -> None:
        """Remember the Bento, which is published first."""
        if (store := artifacts_of(self.home)) is not None:
            publish_bento(store, self.home.bentoml, built.tag, built.digest)
        self._files.write({"bento.json": msgspec.json.encode(built)})


def built_release(home: Home, model: str, version: int | str) -> Release:
    """The Bento that was built of the version, with the version's latest certificate.

    Raises MissingFileError where it was not built or not proved, ReleaseError where it was changed
    since.
    """
    folder = VersionFolder.of(home, model, version)
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
    return bring(home, built.tag, built.digest, certificate)


def built_labels(home: Home, model: str) -> list[str]:
    """Versions and variants of which a Bento was built, the oldest first."""
    found = []
    for name in version_labels(home, model):
        with suppress(ValueError):  # not a version's folder
            found.append((parse_label(name), name))
    folders = ((label, VersionFolder.of(home, model, label)) for _, label in sorted(found))
    return [label for label, folder in folders if folder.has("bento.json")]


def version_labels(home: Home, model: str) -> set[str]:
    """The names of the versions' folders, on this machine and published."""
    here = {path.name for path in (home.versions / model).glob("*/")}
    store = artifacts_of(home)
    return here if store is None else here | labels(store, model)


def live_release(home: Home, live: Live) -> Release:
    """The release that a live version was, with the version's latest certificate.

    Raises MissingFileError without a certificate, ReleaseError where the Bento is gone or is not
    the one on the ledger any more.
    """
    model = live.bento.partition(":")[0]
    certificate = VersionFolder.of(home, model, live.label).certificate()
    return bring(home, live.bento, live.bento_digest, certificate)
