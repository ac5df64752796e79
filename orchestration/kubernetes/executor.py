"""What executes a run, and its heavy steps: this process, or pods."""

import dagster as dg

from deploy.manifests.dagster import PLAIN
from orchestration.kubernetes.tags import pod
from orchestration.steps.base import InProcess, Steps
from serving_config.load import ConfigurationError
from serving_config.schema import Configuration

EXTRA = (
    "platform.yaml: kubernetes.dagster.runs: kubernetes needs slipway's extra `kubernetes` "
    "(dagster-k8s): pip install 'slipway[kubernetes,postgres]'"
)


def lifecycle_executor(configuration: Configuration) -> dg.ExecutorDefinition:
    """Of the lifecycle's jobs: in one process five steps cost no start-ups; on a cluster each has a
    pod, with the resources of its tags."""
    return step_pods(configuration) or dg.in_process_executor


def step_pods(configuration: Configuration) -> dg.ExecutorDefinition | None:
    """A pod for each step; None where runs are processes. Raises ConfigurationError where the extra
    is missing."""
    if configuration.platform.kubernetes.dagster.runs != "kubernetes":
        return None
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError as error:
        raise ConfigurationError(EXTRA) from error
    step = pod(configuration, "other", PLAIN)
    # The steps of a run that was ended go with its pod.
    return k8s_job_executor.configured({"enable_owner_references": True, "step_k8s_config": step})


def steps(configuration: Configuration) -> Steps:
    """Where the heavy steps run."""
    if configuration.platform.kubernetes.dagster.runs != "kubernetes":
        return InProcess()
    from orchestration.kubernetes.pods import InPods

    return InPods(configuration)
