"""CronJobs for who stops Dagster's schedules: the same jobs, asked for by Kubernetes.

Each one starts a Dagster run and waits for it, so that all of it is in Dagster's UI.
"""

import zlib
from collections.abc import Iterator

from deploy.kubernetes.settings import Source
from deploy.kubernetes.workload import container, labels
from deploy.manifests.dagster import PLAIN, pod
from deploy.manifests.names import Json, object_name
from serving_config.kubernetes import Resources

_SECONDS = 3000
_LATE_SECONDS = 600
_RESOURCES = Resources(cpu="100m", memory="384Mi", memory_limit="1Gi")
# Exit code 3 says that there was not enough data: a result, no failure.
_DRIFT = 'slipway drift "$0" --environment "$1" || test $? -eq 3'


def cronjobs(source: Source) -> list[Json]:
    """`slipway drift` each hour for each model in each environment, `slipway materialize` each
    hour: it does whatever is missing."""
    return [*_drift(source), *_materialize(source)]


def _drift(source: Source) -> Iterator[Json]:
    configuration = source.configuration
    for environment in sorted(configuration.environments):
        for name, model in sorted(configuration.models.items()):
            if model.drift.enabled:
                command = ["sh", "-c", _DRIFT, name, environment]
                yield _cronjob(source, f"drift-{name}-{environment}", command)


def _materialize(source: Source) -> Iterator[Json]:
    if source.configuration.features.views:
        yield _cronjob(source, "materialize", ["slipway", "materialize"])


def _cronjob(source: Source, name: str, command: list[str]) -> Json:
    # A CronJob's name may have 52 characters: its Jobs add eleven.
    metadata = {"name": object_name(name), "namespace": source.namespace, "labels": labels("cron")}
    run = container(source, "slipway", _RESOURCES, ("SLIPWAY_LEDGER_URL",)) | {"command": command}
    own = {"restartPolicy": "Never", "containers": [run]}
    spec = pod(source.configuration, PLAIN) | own
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata,
        "spec": {
            # Not all of them in the same minute.
            "schedule": f"{zlib.crc32(name.encode()) % 60} * * * *",
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": _LATE_SECONDS,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "spec": {
                    # The next hour tries again.
                    "backoffLimit": 0,
                    "activeDeadlineSeconds": _SECONDS,
                    "template": {"metadata": {"labels": labels("cron")}, "spec": spec},
                }
            },
        },
    }
