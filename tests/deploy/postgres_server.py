"""A real PostgreSQL in a folder of its own, on a free port of 127.0.0.1."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from deploy.processes import free_port

PASSWORD = "p@ss:w/rd %"  # noqa: S105
ESCAPED = "p%40ss%3Aw%2Frd %25"
# initdb and the server refuse root.
USER = "postgres"


class PostgresServer:
    """Started by `start`; `stop` ends it at once, as a crash would."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.port = free_port()
        self._data = folder / "data"
        self._log = folder / "server.log"
        self._binaries = binaries
        self._numbers = count()
        self.process: subprocess.Popen[bytes] | None = None
        secret = folder / "password"
        secret.write_text(PASSWORD)
        command = ["--username=slipway", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        subprocess.run(
            [*self._as_user("initdb"), *command, "--locale=C.UTF-8", "-D", str(self._data)],
            check=True,
            capture_output=True,
        )

    def _as_user(self, program: str) -> list[str]:
        binary = str(self._binaries / program)
        if os.getuid() != 0:
            return [binary]
        return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", binary]

    def start(self) -> None:
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        options += ["-c", "fsync=off", "-c", "shared_buffers=16MB", "-p", str(self.port)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._as_user("postgres"), "-D", str(self._data), *options],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, self._log.read_text()
                assert self.process.poll() is None, self._log.read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(3)  # SIGQUIT: at once, its children too
            try:
                self.process.wait(20)
            finally:
                self.process.kill()
                self.process.wait()

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """As the superuser, each statement by itself."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="slipway",
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        )

    def url(self, database: str, user: str = "slipway", password: str = ESCAPED) -> str:
        return f"postgresql+psycopg://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """An empty one; returns its name."""
        name = f"ledger_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return name


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    if on_path := shutil.which("initdb"):
        return Path(on_path).parent
    missing = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Skips the test where PostgreSQL is not installed; in CI that is a failure."""
    binaries = _binaries()
    with tempfile.TemporaryDirectory(prefix="slipway-postgres-") as name:
        folder = Path(name)
        if os.getuid() == 0:
            shutil.chown(folder, USER, USER)
        server = PostgresServer(folder, binaries)
        try:
            server.start()
            yield server
        finally:
            server.stop()
