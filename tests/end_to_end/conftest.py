"""A real platform on free ports, started by `slipway demo` once for all end-to-end tests."""

import signal
from collections.abc import Iterator

import pytest

from orchestration.mlflow_plugins import leave_out_feast
from tests.end_to_end.harness import Checkout

# `make test` runs these in the background, where a shell has SIGINT ignored: Ctrl-C is to end them,
# with all that they have started.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _mlflow() -> None:
    """These tests ask the registry as its users do, without Feast in the same process."""
    leave_out_feast()


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    """A checkout on which nothing runs."""
    made = Checkout.make()
    yield made
    made.close()


@pytest.fixture(scope="session")
def platform() -> Iterator[Checkout]:
    """A platform after `slipway demo`: both example models are in production."""
    made = Checkout.make()
    try:
        made.must("demo")
        yield made
    finally:
        made.close()
