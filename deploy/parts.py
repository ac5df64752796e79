"""The platform's parts, each by itself: what `slipway run` runs, in a container say.

Parts of one platform share its home. A part may be killed and started again in any order.
"""

import fcntl
import os
import sys
import time

from deploy.features import TRANSFORMER, transformer_process
from deploy.gateway.clusters import LOOPBACK
from deploy.home import Home
from deploy.keys import KeyStore
from deploy.ledger import open_ledger
from deploy.platform import CONTROL, DAEMON, GATEWAY, MLFLOW, WEBSERVER, LocalPlatform
from deploy.supervision import MODEL_SERVERS, ProcessSpec, Supervisor, SupervisorError
from deploy.supervisor import write_gateway
from deploy.targets.local import server_ports

CODE_SERVER = "code-server"
PARTS = (
    *(GATEWAY, CONTROL, MLFLOW, WEBSERVER, DAEMON, CODE_SERVER),
    *(TRANSFORMER, MODEL_SERVERS),
)
_LOCK_SECONDS = 3.0  # of one that was just ended


class PartError(RuntimeError):
    """The part cannot run here; one line."""


def process(platform: LocalPlatform, part: str) -> ProcessSpec:
    """What the part is, once it was prepared. PartError."""
    made = {
        GATEWAY: platform.gateway,
        CONTROL: platform.control,
        MLFLOW: platform.mlflow,
        WEBSERVER: platform.webserver,
        DAEMON: platform.daemon,
    }
    if part in made:
        return made[part]()
    if part == CODE_SERVER:
        return platform.code_server(separate=True)
    if part == MODEL_SERVERS:
        return ProcessSpec(part, [sys.executable, "-m", "deploy.supervisor", MODEL_SERVERS])
    transformer = transformer_process(platform.home, platform.configuration)
    if transformer is None:
        raise PartError("no model has a feature_service: there is no feature transformer to run")
    return transformer


def hold(home: Home, part: str) -> None:
    """Be the home's only one of that part until this process ends, whatever it becomes. PartError
    where another one runs, or the whole platform."""
    supervisor = Supervisor(home)
    if supervisor.running() and not supervisor.only_servers():
        raise PartError(f"the whole platform is up in {home.root}: `slipway down` ends it")
    folder = home.run / "parts"
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / f"{part}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise PartError(f"{part} runs already in {home.root}") from None
            time.sleep(0.05)
    os.set_inheritable(descriptor, True)


def running(home: Home) -> list[str]:
    """The parts that run by themselves in the home."""
    return [part for part in PARTS if _is_held(home, part)]


def _is_held(home: Home, part: str) -> bool:
    try:
        with (home.run / "parts" / f"{part}.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def prepare_gateway(platform: LocalPlatform) -> None:
    """Envoy's files, by the ledger. Model servers that are not up write where they are themselves;
    the last that was known stands until then."""
    platform.write_gateway()
    supervisor = Supervisor(platform.home)
    try:
        ports = server_ports(supervisor.names()) if supervisor.running() else None
    except SupervisorError:  # it is starting
        ports = None
    if ports is None and (platform.home.gateway / "rds.json").exists():
        return
    with open_ledger(platform.home, platform.configuration) as ledger:
        write_gateway(platform, ledger, ports or {})


def close_to_strangers(platform: LocalPlatform) -> str | None:
    """Where other machines reach the parts, demand a key of everybody, and make the platform's own;
    returns what to tell while no user has one."""
    if platform.host == LOOPBACK:
        return None
    store = KeyStore(platform.home)
    store.demand()
    if any(entry.revoked is None for entry in store.entries()):
        return None
    return (
        f"on {platform.host} nobody predicts without an API key, and there is none yet: "
        "`slipway keys add NAME` makes one"
    )
