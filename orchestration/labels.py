"""A version's label, `3` or `3-int8`, as the lifecycle takes it apart."""

from dataclasses import dataclass

from bentos.model_server.contract import VARIANTS, parse_label, version_label
from serving_config.schema import Model


class LabelError(ValueError):
    """It names no version, or a variant that the model's settings do not have."""


@dataclass(frozen=True)
class Label:
    """number: the version's in the registry."""

    number: int
    variant: str = VARIANTS[0]

    @classmethod
    def parse(cls, text: str) -> "Label":
        """LabelError for what is none."""
        try:
            return cls(*parse_label(text))
        except ValueError as error:
            raise LabelError(str(error)) from error

    @classmethod
    def configured(cls, text: str, model: Model) -> "Label":
        """As `parse`; LabelError for a variant that the model's YAML does not name, too."""
        found = cls.parse(text)
        if found.variant not in model.variants:
            raise LabelError(
                f"{model.name} version {text}: models/{model.name}.yaml builds no "
                f"{found.variant}: write variants: [{', '.join([*model.variants, found.variant])}]"
            )
        return found

    def __str__(self) -> str:
        return version_label(self.number, self.variant)

    @property
    def is_variant(self) -> bool:
        """Whether it is another than the version as it was trained."""
        return self.variant != VARIANTS[0]

    @property
    def folder(self) -> str:
        """Where its files lie below the version's in MLflow."""
        return self.variant if self.is_variant else ""

    def tags(self, **values: str) -> dict[str, str]:
        """Of the version in MLflow: `slipway.<name>`, of a variant `slipway.int8.<name>`."""
        prefix = f"slipway.{self.variant}" if self.is_variant else "slipway"
        return {f"{prefix}.{name}": value for name, value in values.items()}
