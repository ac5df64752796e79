"""The cluster's settings refuse what a cluster would refuse, and name the value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving_config.kubernetes import Artifacts, Kubernetes, Replicas, Resources, amount


@pytest.mark.parametrize(
    ("text", "cores_or_bytes"),
    [("250m", 0.25), ("2", 2.0), ("0.5", 0.5), ("512Mi", 512 * 2**20), ("1G", 1e9)],
)
def test_a_quantity_is_what_kubernetes_makes_of_it(text: str, cores_or_bytes: float) -> None:
    assert amount(text) == cores_or_bytes


@pytest.mark.parametrize("text", ["", "fast", "1 Gi", "-1", "1e3", "nan", "1mi", "0x10"])
def test_what_is_no_quantity_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValidationError, match="write 250m"):
        Resources(cpu=text)


def test_limits_below_requests_and_zero_are_refused() -> None:
    with pytest.raises(ValidationError, match="memory_limit 1Mi is below memory 384Mi"):
        Resources(memory_limit="1Mi")
    with pytest.raises(ValidationError, match="cpu_limit 100m is below cpu 250m"):
        Resources(cpu_limit="100m")
    with pytest.raises(ValidationError, match="above 0"):
        Resources(cpu="0")


@given(minimum=st.integers(1, 1000), maximum=st.integers(1, 1000))
def test_an_autoscaler_never_gets_a_minimum_above_its_maximum(minimum: int, maximum: int) -> None:
    if minimum > maximum:
        with pytest.raises(ValidationError, match=f"minimum {minimum} is above maximum {maximum}"):
            Replicas(minimum=minimum, maximum=maximum)
    else:
        assert Replicas(minimum=minimum, maximum=maximum).maximum == maximum


def test_an_image_names_only_what_is_filled_in_and_a_url_holds_no_password() -> None:
    Kubernetes(image="registry.example/{model}:{bento}")
    with pytest.raises(ValidationError, match="image"):
        Kubernetes(image="registry.example/{tag}")
    with pytest.raises(ValidationError, match="url"):
        Artifacts(url="s3://key:secret@bucket/slipway")
