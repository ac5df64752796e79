"""A real Envoy that is about to be stopped."""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.home import Home
from tests.deploy.gateway.limited import limited_gateway
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY, until

pytestmark = ADMIN_IS_ASKED_TOO_EARLY


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_what_was_asked_is_answered_and_nothing_new_is_taken() -> None:
    with (
        TemporaryDirectory(prefix="slipway-") as folder,
        limited_gateway(Home(Path(folder)).create()) as gateway,
        ThreadPoolExecutor(2) as pool,
        gateway.client() as client,
    ):
        asked = pool.submit(client.get, "/slow")
        assert gateway.iris.waiting.wait(10)
        draining = pool.submit(gateway.admin.drain, 10.0)
        until(lambda: refuses(gateway.port))
        assert not draining.done()
        gateway.iris.release.set()
        assert asked.result().status_code == 200
        draining.result()
