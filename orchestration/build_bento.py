"""A verified model becomes a Bento: the same inputs give the same tag and the same digest.

The Bento's tag is `<model>:<version>-<variant>-<digest>`, the digest being that of its source
tree: the model server's code, the model's folder and the pinned packages. It is known before
anything is built, so a Bento that is there already and intact is used as it is.
"""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import msgspec

import bentos
from bentos.model_server.bundle import (
    BundleError,
    Limits,
    read_bundle,
    read_model_folder,
    require_unity,
    sha256_of,
    tree_digest,
)
from bentos.model_server.certificate import Certificate
from bentos.model_server.codec import Codec
from bentos.model_server.contract import Contract
from orchestration.bento_builder import (
    BuildError,
    BuiltBento,
    Recipe,
    checked_tag,
    copy_packages,
    ensure,
    redis_requirements,
    requirements,
    sources,
    write_requirements,
)
from serving_config.predictions import LoggedColumns
from serving_config.schema import Serving

SERVICE = "bentos.model_server.service:service"
_ALL_LOGGED = LoggedColumns()


def _check(model_dir: Path, limits: Limits) -> tuple[Contract, Certificate]:
    # Nothing is built for a model that a deployment or a server would refuse anyway.
    folder = read_model_folder(model_dir, limits)
    onnx_sha256 = sha256_of(folder.onnx)
    folder.certificate.require_parity(folder.contract, onnx_sha256)
    require_unity(folder.contract, folder.certificate, onnx_sha256)
    limits.prediction_log.require_known(folder.contract)
    Codec(folder.contract, limits.max_rows)
    # What the smoke test of an earlier build found is no part of this one: the same graph and
    # contract give the same Bento, before and after it.
    return folder.contract, msgspec.structs.replace(folder.certificate, http=None)


def _assemble(context: Path, model_dir: Path, limits: Limits, certificate: Certificate) -> None:
    copy_packages(
        context, Path(bentos.__file__).parents[1], sources("model_server", "prediction_log")
    )
    (context / "model").mkdir()
    for name in ("model.onnx", "contract.json"):
        shutil.copyfile(model_dir / name, context / "model" / name)
    (context / "model" / "certificate.json").write_bytes(certificate.encode())
    (context / "model" / "serving.json").write_bytes(msgspec.json.encode(limits) + b"\n")
    cached = redis_requirements() if limits.cache is not None else []
    write_requirements(context, [*requirements("serving"), *cached])


def _verify(path: Path, contract: Contract, certificate: Certificate) -> None:
    bundle = read_bundle(path)
    if bundle.contract != contract or bundle.certificate != certificate:
        raise BundleError(f"{path} holds another contract or certificate than was asked for")


def bento_tag(contract: Contract, digest: str) -> tuple[str, str]:
    """The two halves of the tag; BuildError where BentoML does not permit one."""
    version = f"{contract.version}-{contract.variant}-{digest[:12]}"
    return checked_tag(contract.model, version)


def build_bento(
    model_dir: Path, serving: Serving, bento_home: Path, logged: LoggedColumns = _ALL_LOGGED
) -> BuiltBento:
    """Build, or find intact, the Bento of a verified model.

    model_dir holds `model.onnx`, `contract.json` and `certificate.json`; bento_home is the
    BENTOML_HOME to build into; logged: what of the model's inputs may be kept. Raises
    CertificateError, ContractError or BundleError where the model must not be built, BuildError
    where it cannot be.
    """
    bento_home = bento_home.resolve()
    settings = serving.model_dump() | {"prediction_log": logged.model_dump()}
    limits = msgspec.convert(settings, Limits)
    contract, certificate = _check(model_dir, limits)
    try:
        with tempfile.TemporaryDirectory(prefix="slipway-build-") as folder:
            context = Path(folder).resolve()
            _assemble(context, model_dir, limits, certificate)
            digest = tree_digest(context)
            about = f"{contract.model} version {contract.version}, {contract.variant}"
            recipe = Recipe(SERVICE, about, ("bentos/", "model/"))
            verify = partial(_verify, contract=contract, certificate=certificate)
            tag = bento_tag(contract, digest)
            return ensure(context, bento_home, tag, digest, recipe, verify)
    except OSError as error:
        raise BuildError(
            f"the Bento of {contract.model} version {contract.version} cannot be written: "
            f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        ) from error
