"""Two daemons, or a sensor that asked twice, promote at the same moment over one PostgreSQL."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from deploy.events import LedgerConflictError
from deploy.ledger import Ledger
from deploy.release import Release
from tests.deploy.postgres_server import PostgresServer
from tests.deploy.releases import release
from tests.deploy.serving_things import promote
from tests.deploy.targets.memory import MemoryTarget

OLD, NEW, OTHER = release(1), release(2), release(3)


def race(url: str, *wanted: Release) -> list[str]:
    """Each with a ledger of its own, up to the moment before it is written; what came of it."""
    barrier = Barrier(len(wanted))

    def run(which: Release) -> str:
        with Ledger(url) as ledger:
            target = MemoryTarget(ledger, before=meeting(barrier))
            try:
                return promote(target, which).status
            except LedgerConflictError:
                return "conflict"

    with ThreadPoolExecutor(len(wanted)) as pool:
        return sorted(pool.map(run, wanted))


def meeting(barrier: Barrier) -> Callable[[str], None]:
    """All wait until everybody's server is ready."""
    met = []

    def wait(call: str) -> None:
        if call.startswith("wait_ready") and not met:
            met.append(call)
            barrier.wait(30)

    return wait


@pytest.mark.parametrize("wanted", [(NEW, NEW), (NEW, NEW, NEW), (NEW, OTHER)])
def test_one_of_them_releases(wanted: tuple[Release, ...], postgres: PostgresServer) -> None:
    url = postgres.url(postgres.create_database())
    with Ledger(url) as ledger:
        promote(MemoryTarget(ledger), OLD)
        before = len(ledger.events())
        found = race(url, *wanted)
        assert found.count("conflict") == len(wanted) - 1
        assert len(ledger.events()) == before + 1
        assert ledger.check() == before + 1
        served = {live.label for live in ledger.state("staging", "iris").live if live.weight}
        assert len(served) == 1


def test_a_promotion_that_is_asked_for_again_changes_nothing(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.create_database())
    with Ledger(url) as one, Ledger(url) as two:
        promote(MemoryTarget(one), NEW)
        events = two.events()
        assert promote(MemoryTarget(two), NEW).event is None
        assert one.events() == events
