"""A release: a verified Bento, named by its digest, that may be deployed."""

from dataclasses import dataclass
from pathlib import Path

from bentos.model_server.bundle import Bundle, BundleError, read_bundle
from bentos.model_server.certificate import Certificate, CertificateError
from bentos.model_server.contract import ContractError
from deploy.artifacts.bentos import fetch_bento
from deploy.artifacts.errors import DamagedArtifactError, MissingArtifactError
from deploy.artifacts.store import artifacts_of
from deploy.events import Live
from deploy.home import Home

# The first environment proves a version over HTTP; every other one demands that proof.
PROVING_ENVIRONMENT = "staging"


class ReleaseError(RuntimeError):
    """A Bento that must not be deployed."""


@dataclass(frozen=True)
class Release:
    """tag: the Bento's; certificate: the version's latest, which may know more than the Bento's."""

    tag: str
    bundle: Bundle
    certificate: Certificate

    @classmethod
    def load(
        cls, tag: str, bentoml_home: Path, certificate: Certificate | None = None
    ) -> "Release":
        """Read the Bento back from the store and hold it against its own digests.

        Raises ReleaseError where it is missing, incomplete or was changed.
        """
        name, _, version = tag.partition(":")
        path = bentoml_home / "bentos" / name / version
        try:
            bundle = read_bundle(path)
        except (BundleError, CertificateError, ContractError) as error:
            raise ReleaseError(f"Bento {tag} must not be deployed: {error}") from error
        if not tag.endswith(bundle.digest[:12]):
            raise ReleaseError(
                f"Bento {tag} must not be deployed: its files have digest {bundle.digest[:12]}; "
                "they were changed after the build; materialize the bento asset again"
            )
        return cls(tag, bundle, certificate or bundle.certificate)

    def require_certificate(self, environment: str) -> None:
        """Raise CertificateError unless these very files were proved as far as needed."""
        bundle = self.bundle
        if environment == PROVING_ENVIRONMENT:
            self.certificate.require_parity(bundle.contract, bundle.onnx_sha256)
        else:
            self.certificate.require(bundle.contract, bundle.onnx_sha256, bundle.digest)

    @property
    def model(self) -> str:
        """The model's name."""
        return self.bundle.contract.model

    def live(self, weight: int = 100) -> Live:
        """This release as an entry of the ledger's state."""
        contract = self.bundle.contract
        return Live(
            version=contract.version,
            variant=contract.variant,
            onnx_sha256=self.bundle.onnx_sha256,
            bento=self.tag,
            bento_digest=self.bundle.digest,
            certificate_sha256=self.certificate.digest(),
            weight=weight,
        )


def bring(home: Home, tag: str, digest: str, certificate: Certificate | None = None) -> Release:
    """The Bento of that digest, from the store of artifacts where this machine does not have it.

    Raises ReleaseError where it is nowhere, or is another one.
    """
    store = artifacts_of(home)
    try:
        return _exact(home, tag, digest, certificate)
    except ReleaseError:
        if store is None:
            raise
    try:
        fetch_bento(store, tag, digest, home.bentoml)
    except (MissingArtifactError, DamagedArtifactError) as error:
        raise ReleaseError(f"Bento {tag} must not be deployed: {error}") from error
    return _exact(home, tag, digest, certificate)


def _exact(home: Home, tag: str, digest: str, certificate: Certificate | None) -> Release:
    release = Release.load(tag, home.bentoml, certificate)
    if (found := release.bundle.digest) != digest:
        raise ReleaseError(
            f"Bento {tag} has digest {found[:12]}, {digest[:12]} was built and released; "
            "materialize the bento asset again"
        )
    return release
