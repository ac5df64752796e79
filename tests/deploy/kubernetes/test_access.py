"""The Roles of the tree are enough for a release from its beginning to its end, and withholding
any of them is noticed. The stand-in API server asks them as RBAC does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.cluster.errors import ClusterError
from deploy.kubernetes.access import ROLE, TRAFFIC, in_environment, in_platform, rule
from deploy.kubernetes.settings import Source
from deploy.ledger import Ledger
from deploy.manifests.names import Json
from serving_config.load import FOLDER
from tests.deploy.cluster.api_server import RefusalError, Request
from tests.deploy.cluster.places import Place, place, settings
from tests.deploy.releases import release
from tests.deploy.serving_things import ANN, PLACE, promote, traffic_of

# From outside of the cluster, as here, pods are asked by way of the API server; and anybody may
# ask what he himself may do.
_OUTSIDE = {("get", "pods/proxy"), ("create", "selfsubjectaccessreviews")}


@dataclass
class Rbac:
    """https://kubernetes.io/docs/reference/access-authn-authz/rbac/, without wildcards."""

    objects: list[Json]

    def __call__(self, request: Request) -> None:
        """RefusalError unless a rule allows it. An apply may create what is not there yet."""
        part = request.part.split("/")[0]
        resource = f"{request.plural}/{part}" if part else request.plural
        wanted = {request.verb} | ({"create"} if request.verb == "patch" else set())
        if (request.verb, resource) in _OUTSIDE:
            return
        for verb in wanted:
            if not any(
                self._allows(each, request, resource, verb) for each in self._rules(request)
            ):
                raise RefusalError(403, "Forbidden", f"may not {verb} {resource}: {request}")

    def _rules(self, request: Request) -> Iterator[Json]:
        """A namespace is in itself."""
        where = request.name if request.plural == "namespaces" else request.namespace
        for item in self.objects:
            if item["kind"] == "Role" and item["metadata"]["namespace"] == where:
                yield from item["rules"]

    @staticmethod
    def _allows(rule: Json, request: Request, resource: str, verb: str) -> bool:
        names = rule.get("resourceNames", [request.name])
        found = (request.group, resource, verb, request.name)
        return all(
            value in allowed
            for value, allowed in zip(
                found, (rule["apiGroups"], rule["resources"], rule["verbs"], names), strict=True
            )
        )


def roles() -> list[Json]:
    """Those of staging and of the platform, with what the component gateway-api adds."""
    source = Source(settings(), FOLDER)
    made = in_environment(source, source.configuration.environments["staging"])
    made += in_environment(source, source.configuration.environments["production"])
    made += in_platform(source)
    for item in made:
        if item["kind"] == "Role" and item["metadata"]["name"] == ROLE:
            item["rules"] += [rule(*each) for each in TRAFFIC["gateway-api"]]
    return made


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    ledger = Ledger("sqlite://")
    with place(tmp_path, ledger) as here:
        for name in ("slipway-staging", "slipway-production"):  # the tree has made them
            here.api.add("namespaces", {"metadata": {"name": name}})
        yield here
    ledger.close()


def release_twice_and_back(here: Place) -> None:
    promote(here.target, release(1))
    promote(here.target, release(2))
    traffic = traffic_of(here.target)
    traffic.rollback(*PLACE, ANN, "slow")
    traffic.tidy(*PLACE)


def test_they_are_enough_for_a_release_and_the_way_back(here: Place) -> None:
    here.api.faults.append(Rbac(roles()))
    release_twice_and_back(here)
    assert here.target.in_step()


@pytest.mark.parametrize(
    "resource", ["deployments", "services", "leases", "httproutes", "configmaps", "ingresses"]
)
def test_none_of_them_is_for_nothing(here: Place, resource: str) -> None:
    poorer = roles()
    for item in poorer:
        for each in item.get("rules", ()):
            each["resources"] = [name for name in each["resources"] if name != resource]
    here.api.faults.append(Rbac(poorer))
    with pytest.raises(ClusterError, match=resource):
        release_twice_and_back(here)
