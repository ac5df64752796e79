"""The judgement of a Deployment, by what a cluster says of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.targets.waiting import READY, judge

SET = {
    "metadata": {
        "uid": "set",
        "annotations": {"deployment.kubernetes.io/revision": "2"},
        "ownerReferences": [{"uid": "iris", "controller": True}],
    }
}
OLD_SET = {
    "metadata": {
        "uid": "old",
        "annotations": {"deployment.kubernetes.io/revision": "1"},
        "ownerReferences": [{"uid": "iris", "controller": True}],
    }
}


def deployment(wanted: int = 2, generation: int = 3, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": "iris", "generation": generation},
        "spec": {"replicas": wanted, "progressDeadlineSeconds": 60},
        "status": status,
    }


def pod(owner: str = "set", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "iris-x", "ownerReferences": [{"uid": owner, "controller": True}]},
        "spec": {"containers": [{"name": "server", "resources": {"limits": {"memory": "9Mi"}}}]},
        "status": status,
    }


def container(state: dict[str, Any], last: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": "server",
        "image": "iris:1",
        "ready": False,
        "state": state,
        "lastState": last or {},
    }


WAITS = {"replicas": 2, "observedGeneration": 3, "updatedReplicas": 1, "availableReplicas": 1}


@given(
    observed=st.integers(0, 5),
    generation=st.integers(1, 5),
    wanted=st.integers(1, 4),
    updated=st.integers(0, 4),
    available=st.integers(0, 4),
    total=st.integers(0, 6),
)
def test_it_is_ready_by_its_newest_generation_with_all_pods_new_and_available_only(
    observed: int, generation: int, wanted: int, updated: int, available: int, total: int
) -> None:
    status = {
        "observedGeneration": observed,
        "updatedReplicas": updated,
        "availableReplicas": available,
        "replicas": total,
    }
    look = judge(deployment(wanted, generation, **status), [SET], [])
    is_done = observed >= generation and updated == wanted == total and available >= wanted
    assert (look == READY) == is_done
    assert look.state in ("ready", "waiting")


def test_a_cluster_that_has_said_nothing_yet() -> None:
    bare = {"metadata": {"uid": "iris", "generation": 1}, "spec": {}}
    assert judge(bare, [], []).state == "waiting"


def test_pods_of_the_revision_before_and_those_that_are_going_say_nothing() -> None:
    crashing = container(
        {"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": {"exitCode": 1}}
    )
    old = pod("old", containerStatuses=[crashing])
    going = pod(containerStatuses=[crashing])
    going["metadata"]["deletionTimestamp"] = "now"
    look = judge(deployment(**WAITS), [OLD_SET, SET], [old, going])
    assert look.state == "waiting"
    assert look.reason == "1 of 2 pods are updated, 1 are available"
    assert judge(deployment(**WAITS), [SET], [pod(containerStatuses=[crashing])]).state == (
        "failed"
    )


SAID = [
    (
        container({"waiting": {"reason": "ErrImagePull", "message": "denied"}}),
        "failed",
        "the image iris:1 cannot be pulled (ErrImagePull: denied)",
    ),
    (
        container({"waiting": {"reason": "CreateContainerConfigError", "message": 'no "keys"'}}),
        "failed",
        'cannot start (CreateContainerConfigError): no "keys"',
    ),
    (
        container({"running": {}}, {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
        "failed",
        "killed for memory (OOMKilled) at its limit 9Mi: raise kubernetes.resources.memory_limit",
    ),
    (
        container({"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": {"exitCode": 3}}),
        "failed",
        "crashes again and again (exit code 3)",
    ),
    (container({"terminated": {"exitCode": 3}}), "waiting", "ended with exit code 3"),
]


@pytest.mark.parametrize(("status", "state", "words"), SAID)
def test_what_a_container_says(status: dict[str, Any], state: str, words: str) -> None:
    look = judge(deployment(**WAITS), [SET], [pod(containerStatuses=[status])])
    assert look.state == state
    assert words in look.reason
    if "terminated" in str(status):
        assert look.words is not None
        assert look.words.container == "server"


def test_an_init_container_that_fails_is_no_crash_to_be_waited_for() -> None:
    status = {"name": "fetch", "ready": False, "state": {"terminated": {"exitCode": 1}}}
    look = judge(deployment(**WAITS), [SET], [pod(initContainerStatuses=[status])])
    assert (look.state, "init container fetch" in look.reason) == ("failed", True)
    done = {"name": "fetch", "ready": True, "state": {"terminated": {"exitCode": 0}}}
    look = judge(deployment(**WAITS), [SET], [pod(initContainerStatuses=[done])])
    assert look.state == "waiting"


def test_a_pod_without_a_node_is_waited_for_with_its_reason() -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: memory"}
    look = judge(deployment(**WAITS), [SET], [pod(conditions=[condition])])
    assert look.state == "waiting"
    assert "finds no node (0/3 nodes: memory)" in look.reason


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("pods is forbidden: exceeded quota: few", "quota allows no more pods"),
        ("violates PodSecurity restricted", "cannot be created: violates PodSecurity"),
    ],
)
def test_pods_that_cannot_be_made(message: str, words: str) -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": message}
    refused = SET | {"status": {"conditions": [condition]}}
    look = judge(deployment(**WAITS), [OLD_SET, refused], [])
    assert look.state == "failed"
    assert words in look.reason


def test_the_cluster_s_own_deadline() -> None:
    over = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    look = judge(deployment(conditions=[over], **WAITS), [SET], [pod()])
    assert (look.state, look.reason) == (
        "failed",
        "it made no progress for 60 s: iris-x not ready",
    )
    # It is of the generation before.
    stale = WAITS | {"observedGeneration": 2}
    assert judge(deployment(conditions=[over], **stale), [SET], [pod()]).state == "waiting"
