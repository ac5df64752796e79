"""Dagster's instance: one text for the local platform, for containers and for a cluster."""

import os
from collections.abc import Mapping
from typing import Any

import yaml

from deploy.manifests import dagster as pods
from deploy.manifests.names import Json
from serving_config.schema import Configuration

_COMMON: Json = {
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
    "concurrency": {
        # A run that follows a canary holds its place for hours, and does nothing else.
        "runs": {"max_concurrent_runs": 10},
        "pools": {"default_limit": 1, "granularity": "op"},
    },
    "run_coordinator": {
        "module": "dagster.core.run_coordinator",
        "class": "QueuedRunCoordinator",
        "config": {"dequeue_interval_seconds": 1},
    },
    # A run whose process died starts once more; a step that failed does not.
    "run_retries": {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False},
    "run_monitoring": {
        "enabled": True,
        "start_timeout_seconds": 180,
        "max_runtime_seconds": 3600,
        # A run that was killed holds its deployment pool no longer than this.
        "free_slots_after_run_end_seconds": 1,
    },
    "sensors": {"use_threads": True, "num_workers": 4},
    "retention": {"sensor": {"purge_after_days": {"skipped": 1, "failure": 30, "success": -1}}},
}
# On a cluster: nodes are added while pods wait; one that died is told by asking the API server.
_MONITORING = {
    "start_timeout_seconds": 600,
    "cancel_timeout_seconds": 300,
    "poll_interval_seconds": 30,
    # As on one machine: it starts anew, by `run_retries`.
    "max_resume_run_attempts": 0,
}


def dagster_yaml(configuration: Configuration, variables: Mapping[str, str] = os.environ) -> str:
    """The text of `dagster.yaml`. variables: settings that runs' pods take over."""
    return yaml.safe_dump(instance(configuration, variables), sort_keys=False, width=100)


def instance(configuration: Configuration, variables: Mapping[str, str]) -> dict[str, Any]:
    """The same as a mapping. It names the variable with the database's URL, and so no password."""
    found = dict(_COMMON)
    if configuration.platform.dagster.storage_url is not None:
        found["storage"] = {"postgres": {"postgres_url": {"env": pods.STORAGE_VARIABLE}}}
    if configuration.platform.kubernetes.dagster.runs == "kubernetes":
        found["run_monitoring"] = _COMMON["run_monitoring"] | _MONITORING
        found["run_launcher"] = {
            "module": "dagster_k8s",
            "class": "K8sRunLauncher",
            "config": launcher(configuration, variables),
        }
        # Pods have no disk that outlives them: `kubectl logs`, or what collects logs there.
        found["compute_logs"] = {
            "module": "dagster._core.storage.noop_compute_log_manager",
            "class": "NoOpComputeLogManager",
        }
    return found


def launcher(configuration: Configuration, variables: Mapping[str, str]) -> Json:
    """K8sRunLauncher's configuration; what it says of pods holds for the executor's steps too.

    Whatever is materialized from the UI has no tags, so that a run may start pods and deploy by
    default; tags and the executor take that back, see `orchestration.kubernetes.tags`.
    """
    kubernetes = configuration.platform.kubernetes
    settings = kubernetes.dagster
    container = pods.container(pods.OF_RUN, settings.steps.other, variables)
    return {
        "load_incluster_config": True,
        "job_namespace": kubernetes.namespace,
        "job_image": settings.image,
        "image_pull_policy": "IfNotPresent",
        "service_account_name": pods.DEPLOYER,
        # The pods get the instance with their arguments; the launcher only wants a name.
        "instance_config_map": "slipway-dagster",
        "dagster_home": f"{pods.HOME}/dagster",
        "run_k8s_config": {
            "container_config": {
                "command": pods.ENTRY,
                **container,
                "env": [*container["env"], *pods.OWN_NAME],
            },
            "pod_spec_config": pods.pod(configuration, pods.DEPLOYER),
            "pod_template_spec_metadata": {"labels": pods.labels("dagster-run")},
            "job_metadata": {"labels": pods.labels("dagster-run")},
            "job_spec_config": {"ttlSecondsAfterFinished": 3600},
        },
    }
