"""Errors that a user can do something about, as Dagster failures of one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from bentos.model_server.bundle import BundleError
from bentos.model_server.certificate import CertificateError
from bentos.model_server.contract import ContractError
from bentos.model_server.session import ModelLoadError
from deploy.again import RolledBackAlreadyError
from deploy.artifacts.errors import DamagedArtifactError, MissingArtifactError, StoreError
from deploy.batch_jobs import BatchRecordError
from deploy.batch_locations import LocationError
from deploy.challenge import ChallengeError
from deploy.events import LedgerError
from deploy.gateway.envoy import GatewayError
from deploy.keys import KeyStoreError
from deploy.release import ReleaseError
from deploy.rollout import GateError
from deploy.supervision import SupervisorError
from deploy.targets.base import TargetError
from deploy.traffic import TrafficError
from deploy.versions import MissingFileError
from orchestration.batch.errors import BatchError
from orchestration.bento_builder import BuildError
from orchestration.export.errors import ExportError
from orchestration.features.errors import FeatureError
from orchestration.labels import LabelError
from orchestration.resources.registry import RegistryError
from orchestration.training import TrainingError
from serving_config.load import ConfigurationError

_EXPLAINED = (
    BatchError,
    BatchRecordError,
    BuildError,
    BundleError,
    CertificateError,
    ChallengeError,
    ConfigurationError,
    ContractError,
    DamagedArtifactError,
    ExportError,
    FeatureError,
    GateError,
    GatewayError,
    KeyStoreError,
    LabelError,
    LedgerError,
    LocationError,
    MissingArtifactError,
    MissingFileError,
    ModelLoadError,
    RegistryError,
    ReleaseError,
    RolledBackAlreadyError,
    SupervisorError,
    TargetError,
    TrafficError,
    TrainingError,
)


def said_by(error: Exception) -> str:
    """Of a Failure its sentence, of a defect its name, too; in one line."""
    said = error.description if isinstance(error, dg.Failure) else None
    return " ".join((said or f"{type(error).__name__}: {error}").split())


@contextmanager
def one_sentence() -> Iterator[None]:
    """An explained error becomes a Failure with its sentence; a bug keeps its traceback."""
    try:
        yield
    except _EXPLAINED as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except StoreError as error:  # it may be back at the next attempt
        raise dg.Failure(description=str(error)) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise dg.Failure(description=f"{error.strerror or error}{where}") from error
