"""What lies in a Bento: the model's folder, and the digest of the Bento's source tree.

    <bento>/src/bentos/…            this package
    <bento>/src/model/model.onnx    the graph
    <bento>/src/model/contract.json, certificate.json, serving.json
    <bento>/src/requirements.txt    the pinned packages of the `serving` extra

Nothing here imports BentoML or ONNX Runtime, so a deployment may verify a Bento cheaply.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bentos.model_server.certificate import Certificate, decode_certificate
from bentos.model_server.contract import Contract, decode_contract

# bentofile.yaml is BentoML's copy of its build options; bytecode appears once it is served.
NOT_DIGESTED = ("bentofile.yaml",)


class BundleError(ValueError):
    """A Bento or a model folder that is incomplete, or whose parts do not belong together."""


class CacheLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See `serving_config.schema.Cache`."""

    ttl_seconds: float = 60
    max_entries: int = 10_000


class LoggedColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See `serving_config.predictions.LoggedColumns`."""

    never: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()

    def require_known(self, contract: Contract) -> None:
        """BundleError where one is neither an input nor an entity key: nothing would be masked."""
        entities = contract.feature_source.entities if contract.feature_source else ()
        known = [*(field.name for field in contract.inputs), *(key.name for key in entities)]
        if unknown := sorted({*self.never, *self.hashed} - set(known)):
            raise BundleError(
                f"prediction_log of {contract.model} names {unknown[0]!r}, which is none of its "
                f"inputs and entity keys: {', '.join(known)}"
            )


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`serving.json`: limits of one model server; see `serving_config.schema.Serving`."""

    max_rows: int = 1000
    max_body_bytes: int = 4 << 20
    max_concurrency: int = 4096
    max_queue_rows: int = 10_000
    max_batch_rows: int = 256
    deadline_seconds: float = 10
    cache: CacheLimits | None = None
    cors_origins: tuple[str, ...] = ()
    prediction_log: LoggedColumns = LoggedColumns()


@dataclass(frozen=True)
class ModelFolder:
    """The documents beside `model.onnx`, and where that is."""

    contract: Contract
    certificate: Certificate
    limits: Limits
    onnx: Path


@dataclass(frozen=True)
class Bundle:
    """A verified Bento. digest: of its source tree; onnx_sha256: of `model.onnx` in it."""

    contract: Contract
    certificate: Certificate
    limits: Limits
    onnx_sha256: str
    digest: str


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error


def _limits(path: Path) -> Limits:
    try:
        return msgspec.json.decode(_read(path), type=Limits)
    except msgspec.DecodeError as error:
        raise BundleError(f"serving.json: {error}") from error


def read_model_folder(folder: Path, limits: Limits | None = None) -> ModelFolder:
    """The documents of a model folder; says which one is missing or wrong.

    limits: where the folder has no `serving.json` yet. Raises BundleError, ContractError or
    CertificateError. `model.onnx` is not read: the session hashes the very bytes that it loads.
    """
    return ModelFolder(
        contract=decode_contract(_read(folder / "contract.json")),
        certificate=decode_certificate(_read(folder / "certificate.json")),
        limits=limits or _limits(folder / "serving.json"),
        onnx=folder / "model.onnx",
    )


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; BundleError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error


def _files(tree: Path) -> Iterator[tuple[str, Path]]:
    for path in tree.rglob("*"):
        relative = path.relative_to(tree)
        name = relative.as_posix()
        if "__pycache__" in relative.parts or name in NOT_DIGESTED:
            continue
        if path.is_symlink() or not path.is_dir():
            yield name, path


def tree_digest(tree: Path) -> str:
    """SHA-256 (hex) over the sorted (relative path, file's SHA-256) of a source tree."""
    total = hashlib.sha256()
    for name, path in sorted(_files(tree)):
        total.update(f"{name}\0{sha256_of(path)}\n".encode())
    return total.hexdigest()


def bento_digest(bento: Path) -> str:
    """The digest of a Bento, given its folder; equal for equal content whenever it was built."""
    if not (bento / "src").is_dir():
        raise BundleError(f"{bento} is not a Bento: it has no src folder")
    return tree_digest(bento / "src")


def require_unity(contract: Contract, certificate: Certificate, onnx_sha256: str) -> None:
    """Raise BundleError unless contract and certificate are those of this very model."""
    for owner, stated in (
        ("contract.json", contract.onnx_sha256),
        ("certificate.json", certificate.onnx_sha256),
    ):
        if stated != onnx_sha256:
            raise BundleError(
                f"model.onnx of {contract.model} version {contract.version} has digest "
                f"{onnx_sha256}, {owner} is for {stated}: a file was exchanged"
            )
    if certificate.contract_sha256 != contract.digest():
        raise BundleError(
            f"contract.json of {contract.model} version {contract.version} is not the one that "
            "certificate.json is for: a file was exchanged"
        )
    ours = (contract.model, contract.version, contract.variant)
    theirs = (certificate.model, certificate.version, certificate.variant)
    if ours != theirs:
        raise BundleError(f"contract.json is of {ours}, certificate.json of {theirs}")


def read_bundle(bento: Path) -> Bundle:
    """Read and verify a Bento before it is started, given its folder.

    Raises BundleError naming the digests where `model.onnx` is not the one of the contract and
    the certificate; ContractError or CertificateError where one of these cannot be read.
    """
    digest = bento_digest(bento)
    folder = read_model_folder(bento / "src" / "model")
    onnx_sha256 = sha256_of(folder.onnx)
    require_unity(folder.contract, folder.certificate, onnx_sha256)
    return Bundle(folder.contract, folder.certificate, folder.limits, onnx_sha256, digest)
