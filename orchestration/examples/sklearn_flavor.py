"""Log a scikit-learn model as MLflow's sklearn flavour, without pickle."""

from collections.abc import Iterable
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestration.examples.registration import Trained

# Named, because MLflow's own inference of them imports the model in a child process (5-9 s).
REQUIREMENTS = ("mlflow", "numpy", "pandas", "scikit-learn", "skops")


def save_sklearn(trained: "Trained", model: Any, folder: Path) -> None:
    """As skops. model: MLflow's description of it, to be completed."""
    import mlflow.sklearn

    mlflow.sklearn.save_model(
        trained.estimator,
        str(folder),
        mlflow_model=model,
        serialization_format="skops",
        skops_trusted_types=list(trained.trusted_types),
        signature=trained.signature,
        input_example=trained.example,
        pip_requirements=pinned(REQUIREMENTS),
    )


def pinned(names: Iterable[str]) -> list[str]:
    """As they are installed here."""
    return [f"{name}=={installed(name)}" for name in names]
