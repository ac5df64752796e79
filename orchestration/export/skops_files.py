"""Load a skops file: only types that we trust, and nothing that the file brings along."""

from pathlib import Path
from typing import Any

from orchestration.export.errors import UnservableModel
from orchestration.export.trusted_types import TRUSTED_TYPES

SKOPS_FIX = "log it again with mlflow.sklearn.log_model(..., serialization_format='skops')"


def load_skops(path: Path, trusted: tuple[str, ...]) -> Any:
    """The object in a skops file of known types. Raises UnservableModel."""
    import skops.io

    if not path.is_file():
        raise UnservableModel(f"{path.name} is missing from the model; log it again")
    try:
        unknown = sorted(
            set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED_TYPES) - set(trusted)
        )
        _require_packages(path)
        if not unknown:
            return skops.io.load(path, trusted=[*TRUSTED_TYPES, *trusted])
    except UnservableModel:
        raise
    except Exception as error:  # skops raises whatever the broken file provokes
        raise UnservableModel(f"{path.name} cannot be read ({error}); {SKOPS_FIX}") from error
    raise UnservableModel(
        f"{path.name} contains types that are not trusted: {', '.join(unknown)}; if they are "
        "yours, list them under trusted_types in the model's YAML"
    )


def _require_packages(path: Path) -> None:
    """A pipeline may hold a booster: say so before its import fails."""
    import zipfile

    schema = zipfile.ZipFile(path).read("schema.json").decode()
    for package in ("xgboost", "lightgbm"):
        if f'"{package}.' in schema:
            import_booster(package)


def import_booster(package: str) -> Any:
    """XGBoost or LightGBM; UnservableModel with the command to install it."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UnservableModel(
            f"the model needs {package}, which is not installed here: "
            ".venv/bin/uv pip install -e '.[boost]'"
        ) from error
