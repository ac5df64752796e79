"""What comes with the feature store."""

import subprocess
import sys
from importlib.util import find_spec

import pytest


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_torch_stays_out_of_every_process_that_opens_the_feature_store() -> None:
    command = "import sys, feature_repo.store, feast; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_feast_has_torch_when_it_asks_for_it() -> None:
    command = "import feature_repo; from feast.torch_wrapper import get_torch as t; t().tensor([1])"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
