"""The built versions of a model, as they are served."""

from dataclasses import dataclass

from bentos.model_server.certificate import CertificateError
from bentos.model_server.contract import Contract, parse_label
from bentos.model_server.session import ModelLoadError, ModelSession
from deploy.home import Home
from deploy.versions import MissingFileError, VersionFolder, built_labels, version_labels
from orchestration.compare.documents import CompareError


@dataclass(frozen=True)
class Built:
    """A version or variant that was verified and built."""

    label: str
    session: ModelSession
    size_bytes: int

    @property
    def contract(self) -> Contract:
        """Of the graph."""
        return self.session.contract

    @property
    def number(self) -> int:
        """The version, whichever variant of it."""
        return self.contract.version


def built_version(home: Home, model: str, label: str) -> Built:
    """CompareError says what is missing and what to do."""
    try:
        number, _ = parse_label(label)
    except ValueError as error:
        raise CompareError(str(error)) from error
    folder = VersionFolder.of(home, model, label)
    if label not in version_labels(home, model):
        listed = ", ".join(built_labels(home, model)) or "none"
        raise CompareError(f"{model} has no version {label} here; built: {listed}")
    try:
        folder.bento()
        onnx, contract = folder.onnx_bytes(), folder.contract()
        session = ModelSession(onnx, contract)
        folder.certificate().require_parity(contract, contract.onnx_sha256)
    except MissingFileError as error:
        raise CompareError(
            f"version {label} of {model} is not built: `slipway release {model} --version "
            f"{number}` builds it and its variants"
        ) from error
    except (CertificateError, ModelLoadError) as error:
        raise CompareError(str(error)) from error
    return Built(label, session, len(onnx))
