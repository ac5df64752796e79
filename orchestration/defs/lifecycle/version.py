"""A version's graph as it was trained, and the variants that are made of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.labels import Label
from orchestration.monitoring.contest import HOLD_OUT
from orchestration.monitoring.reference import run_reference
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from serving_config.schema import Model

if TYPE_CHECKING:
    import pandas as pd

    from bentos.model_server.certificate import Certificate
    from deploy.versions import VersionFolder
    from orchestration.export.export import Exported
    from orchestration.export.native import NativeModel


@dataclass(frozen=True)
class Version:
    """One version in the registry, its files below `scratch`."""

    registry: Registry
    serving: Serving
    model: Model
    label: Label
    scratch: Path
    registered: Any
    native: "NativeModel"

    @classmethod
    def load(
        cls, registry: Registry, serving: Serving, model: Model, label: Label, scratch: Path
    ) -> "Version":
        """Download it and read the trained model."""
        from orchestration.export import load_native

        registered = registry.get(model.registered_model, label.number)
        source = registry.download(model.registered_model, label.number, scratch / "model")
        native = load_native(source, model.trusted_types)
        return cls(registry, serving, model, label, scratch, registered, native)

    @property
    def folder(self) -> "VersionFolder":
        """Its files in the home."""
        return self.serving.folder(self.model.name, str(self.label))

    def export(self) -> "Exported":
        """The graph of what the label names."""
        base = self._as_trained()
        if not self.label.is_variant:
            return base
        from orchestration.quantization import quantize

        reference = self._reference()
        rows = self.native.example if reference is None else reference
        return quantize(base, rows, self.model.quantization)

    def verify(self) -> "Certificate":
        """What was exported, against the trained model."""
        from bentos.model_server.certificate import Limits
        from bentos.model_server.session import ModelSession
        from orchestration.export.export import Exported
        from orchestration.verify import verify, verify_variant

        graph, contract = self.folder.onnx_bytes(), self.folder.contract()
        if not self.label.is_variant:
            limits = Limits(**self.model.verification.model_dump())
            return verify(self.native, ModelSession(graph, contract), self._reference(), limits)
        variant, base = Exported(graph, contract), self._as_trained()
        return verify_variant(
            self.native, variant, base, self._reference(), self._held_out(), self.model
        )

    def _as_trained(self) -> "Exported":
        from orchestration.export import export
        from orchestration.export.feature_source import described, feature_source

        store = described(self.serving.paths.features, self.model)
        return export(
            self.native,
            self.model,
            version=self.label.number,
            run_id=self.registered.run_id or None,
            model_id=self.registered.model_id or None,
            feature_source=feature_source(self.model, self.native.signature.fields, store),
        )

    def _reference(self) -> "pd.DataFrame | None":
        return run_reference(self.registry, self.registered.run_id, self.scratch / "reference")

    def _held_out(self) -> "pd.DataFrame | None":
        """Rows with their labels that the model was not trained on."""
        import pandas as pd

        if not self.registered.run_id:
            return None
        path = self.registry.download_run_artifact(self.registered.run_id, HOLD_OUT, self.scratch)
        return pd.read_parquet(path) if path else None

    def store(self, names: list[str], **tags: str) -> str | None:
        """Files and tags in MLflow; where, or None without a run to store files with."""
        stored = self.registry.log_files(
            self.registered, self.folder.path, names, self.label.folder
        )
        self.registry.tag(self.model.registered_model, self.label.number, self.label.tags(**tags))
        return stored
