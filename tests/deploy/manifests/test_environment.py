"""What an environment has once: a restricted namespace that nobody reaches but who has to."""

from typing import Any

import pytest

from deploy.manifests.checks import problems
from deploy.manifests.environment import environment_objects
from deploy.manifests.names import Json
from serving_config.kubernetes import Kubernetes
from serving_config.schema import Configuration
from tests.deploy.manifests.schemas import VERSIONS, validate
from tests.deploy.manifests.settings import PER_BENTO, configuration


def policies(settings: Configuration) -> dict[str, Json]:
    objects = environment_objects(settings, "staging")
    return {
        item["metadata"]["name"]: item["spec"]
        for item in objects
        if item["kind"] == "NetworkPolicy"
    }


def outward(settings: Configuration) -> list[Json]:
    return policies(settings)["model-servers-outward"]["egress"]  # type: ignore[no-any-return]


def inward_names(settings: Configuration) -> set[str]:
    (rule,) = policies(settings)["requests-to-model-servers"]["ingress"]
    expressions = [
        expression
        for source in rule["from"]
        for expression in source["namespaceSelector"].get("matchExpressions", ())
    ]
    return {name for expression in expressions for name in expression["values"]}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("target", ["kubernetes", "kserve"])
def test_the_objects_keep_to_the_schema_and_have_no_problems(version: str, target: str) -> None:
    settings = configuration(target=target, cache_url="redis://cache.example/0")
    objects = environment_objects(settings, "staging")
    for item in objects:
        validate(item, version)
    assert problems(objects) == []


def test_the_namespace_takes_restricted_pods_only_and_the_account_has_no_token() -> None:
    namespace, account, *_ = environment_objects(configuration(), "staging")
    assert namespace["metadata"]["name"] == "slipway-staging"
    for mode in ("enforce", "audit", "warn"):
        label = f"pod-security.kubernetes.io/{mode}"
        assert namespace["metadata"]["labels"][label] == "restricted"
    assert account["automountServiceAccountToken"] is False


def test_all_traffic_is_denied_but_for_what_is_named() -> None:
    deny = policies(configuration())["default-deny"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize(
    ("cluster", "target", "names"),
    [
        ({}, "kubernetes", {"slipway"}),
        ({"gateway": "gateways/shared"}, "kubernetes", {"slipway", "gateways"}),
        ({"traffic": "nginx"}, "kubernetes", {"slipway", "ingress-nginx"}),
        ({}, "kserve", {"slipway", "knative-serving", "kourier-system", "istio-system"}),
    ],
)
def test_requests_come_from_the_platform_and_the_gateway(
    cluster: dict[str, Any], target: str, names: set[str]
) -> None:
    assert inward_names(configuration(cluster=Kubernetes(**cluster), target=target)) == names


def test_servers_ask_dns_and_the_transformer_and_only_the_ports_that_the_settings_name() -> None:
    baked = Kubernetes(image=PER_BENTO)
    dns, transformer, *more = outward(configuration(cluster=baked))
    assert {port["port"] for port in dns["ports"]} == {53}
    assert transformer["ports"] == [{"protocol": "TCP", "port": 8090}]
    assert more == []


@pytest.mark.parametrize(
    ("url", "cache", "ports"),
    [
        ("s3://bucket/slipway", None, [443]),
        ("http://minio.slipway:9000/slipway", "redis://cache.example/0", [6379, 9000]),
        ("s3://bucket/slipway", "rediss://cache.example:6380/0", [443, 6380]),
    ],
)
def test_what_is_named_by_url_can_be_reached_on_its_port(
    url: str, cache: str | None, ports: list[int]
) -> None:
    *_, named = outward(configuration(url=url, cache_url=cache))
    assert [port["port"] for port in named["ports"]] == ports
