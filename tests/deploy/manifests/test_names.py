"""Names fit what Kubernetes allows and stay one for each server."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from deploy.manifests.names import labels, object_name, server_name
from tests.deploy.releases import live

MODELS = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True)


@given(model=MODELS, version=st.integers(1, 10**6))
@example(model="x" * 63, version=3)
def test_every_name_is_a_dns_label_that_leaves_room_for_the_pods(model: str, version: int) -> None:
    name = server_name("production", model, live(version))
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
    assert len(name) + 17 <= 63


@given(one=MODELS, other=MODELS)
def test_two_servers_never_share_a_name(one: str, other: str) -> None:
    assert (object_name(one) == object_name(other)) == (one == other)


def test_a_short_name_stays_readable_and_its_labels_are_values_that_selectors_take() -> None:
    name = server_name("staging", "iris", live(3))
    assert name.startswith("iris-3-staging-")
    found = labels("staging", "iris", live(3))
    assert found["app.kubernetes.io/name"] == name
    assert all(len(value) <= 63 for value in found.values())
