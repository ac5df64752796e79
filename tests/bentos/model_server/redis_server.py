"""A real redis-server on a UNIX socket in a folder of its own."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import ConnectionError as RedisConnectionError
from redis import Redis


class RedisServer:
    """Started by `start`; `process` may be killed and started again."""

    def __init__(self, folder: Path, binary: str) -> None:
        self._binary = binary
        self._socket = folder / "redis.sock"
        self.url = f"unix://{self._socket}"
        self.client: Any = Redis(unix_socket_path=str(self._socket), protocol=2)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [self._binary, "--port", "0", "--unixsocket", str(self._socket)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._socket.parent)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client.ping()
                return
            except RedisConnectionError:
                assert time.monotonic() < deadline, "redis-server did not start"
                assert self.process.poll() is None, "redis-server ended"
                time.sleep(0.01)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._socket.unlink(missing_ok=True)

    def names(self) -> list[bytes]:
        return sorted(self.client.keys("*"))


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Skips the test where redis-server is not installed; in CI that is a failure."""
    binary = shutil.which("redis-server")
    if binary is None:
        missing = "redis-server is not installed (Debian: apt-get install redis-server)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    # A UNIX socket's path has at most 107 bytes: pytest's own folders may be longer.
    with tempfile.TemporaryDirectory(prefix="slipway-redis-") as folder:
        server = RedisServer(Path(folder), binary)
        try:
            server.start()
            yield server
        finally:
            server.kill()
            server.client.close()
