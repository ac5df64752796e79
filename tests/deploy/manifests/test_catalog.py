"""Selectors select as Kubernetes has them, and each kind's pods are found."""

import pytest

from deploy.manifests.catalog import pod_template, selects
from deploy.manifests.checks import problems
from deploy.manifests.names import Json


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ({"key": "a", "operator": "In", "values": ["b", "c"]}, True),
        ({"key": "a", "operator": "In", "values": ["c"]}, False),
        ({"key": "a", "operator": "NotIn", "values": ["b"]}, False),
        ({"key": "x", "operator": "NotIn", "values": ["b"]}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "x", "operator": "Exists"}, False),
        ({"key": "a", "operator": "DoesNotExist"}, False),
        ({"key": "x", "operator": "DoesNotExist"}, True),
    ],
)
def test_an_expression_holds_or_not(expression: Json, holds: bool) -> None:
    assert selects({"matchExpressions": [expression]}, {"a": "b"}) is holds


def test_a_pod_of_its_own_is_checked_too() -> None:
    spec: Json = {"hostNetwork": True, "automountServiceAccountToken": False, "containers": []}
    pod = {"kind": "Pod", "metadata": {"name": "one", "namespace": "a"}, "spec": spec}
    assert problems([pod]) == ["Pod a/one: spec.hostNetwork gives the node away: leave it out"]


def test_what_starts_no_pods_has_no_template_and_a_service_may_lead_elsewhere() -> None:
    spec = {"type": "ExternalName", "externalName": "db.example"}
    service = {"kind": "Service", "metadata": {"name": "db", "namespace": "a"}, "spec": spec}
    assert pod_template(service) is None
    assert problems([service]) == []
