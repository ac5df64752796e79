"""The registry's client, as the sensors use it."""

import subprocess
import sys

from deploy.processes import free_port

# Two sensors tick in threads of one process, and neither has imported MLflow yet.
AT_ONCE = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from orchestration.resources.registry import Registry

registry = Registry(tracking_uri=sys.argv[1])

def names(after):
    threading.Event().wait(after)  # anywhere within the other's import
    registry.names()

with ThreadPoolExecutor(16) as pool:
    for failed in [pool.submit(names, number / 10) for number in range(16)]:
        print(type(failed.exception()).__name__)
"""


def test_sensors_that_first_use_mlflow_at_the_same_moment_both_can() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AT_ONCE, f"http://127.0.0.1:{free_port()}"],
        env={"PATH": "", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == ["RegistryError"] * 16, done.stderr
