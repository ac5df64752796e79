"""Kubernetes' own schemas, strict: an unknown field is a mistake."""

import warnings

from deploy.manifests.names import Json

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

VERSIONS = ("1.30", kubernetes_validate.latest_version())


def validate(item: Json, version: str) -> None:
    """kubernetes_validate.ValidationError for an object that this version would not take."""
    kubernetes_validate.validate(item, version, strict=True)
