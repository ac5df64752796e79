"""What the parts of one model's lifecycle are called in Dagster."""

from dataclasses import dataclass

import dagster as dg

from deploy.dagster_names import identifier, job_name, partitions_name

# Runs that a sensor started carry it: what nobody asked for never puts an old version in front.
AUTOMATIC_TAG = "slipway/automatic"


@dataclass(frozen=True)
class Names:
    """Dagster wants identifiers for jobs, groups and pools; asset keys keep the model's name."""

    model: str

    @property
    def identifier(self) -> str:
        """`spam-detector` → `spam_detector`."""
        return identifier(self.model)

    @property
    def lifecycle_job(self) -> str:
        """From the registry to staging."""
        return job_name(self.model, "staging")

    @property
    def promotion_job(self) -> str:
        """From staging to production."""
        return job_name(self.model, "production")

    @property
    def rollback_job(self) -> str:
        """Back to the last healthy version."""
        return f"{self.identifier}_rollback"

    def pool(self, environment: str) -> str:
        """Deployments of one model in one environment go one at a time; a canary takes its time."""
        return f"deploy_{self.identifier}__{environment.replace('-', '_')}"

    @property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        """One partition for each model version."""
        return dg.DynamicPartitionsDefinition(name=partitions_name(self.model))

    def asset(self, step: str) -> dg.AssetKey:
        """`<model>/<step>`."""
        return dg.AssetKey([self.model, step])
