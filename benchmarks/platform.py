"""Times and memory of the local platform: `python -m benchmarks.platform` writes its
section of docs/benchmarks.md.

Everything is started for this run on free ports and ended after it.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report
from deploy.supervision import Supervisor
from tests.end_to_end.harness import SETOSA, Checkout, configure, in_production, wait_for

ROOT = Path(__file__).parent.parent
_SETTLE_SECONDS = 20
_DIRECT = """\
promotion: auto
training: orchestration.examples.iris:train
release: {production: {policy: direct}}
"""

Figure = tuple[str, str, str, str]


def demo(checkout: Checkout) -> Figure:
    """The whole of `make demo` after the install."""
    started = time.perf_counter()
    checkout.must("demo")
    seconds = time.perf_counter() - started
    return "`slipway demo`, first time", f"{seconds:.0f} s", "180 s", "wall time of the command"


def memory(checkout: Checkout) -> list[Figure]:
    """Resident memory, summed over each process tree, once nothing is going on."""
    time.sleep(_SETTLE_SECONDS)  # the runs' processes end and give their memory back
    parts = {item.name: item.memory_bytes for item in Supervisor(checkout.home).status()}
    servers = [size for name, size in parts.items() if "@" in name]
    how = "RSS of the process tree, as `slipway status` shows it"
    return [
        (
            f"idle platform, {len(servers)} model servers",
            f"{sum(parts.values()) / 1e9:.2f} GB",
            "2.5 GB",
            how,
        ),
        ("the same without them", f"{(sum(parts.values()) - sum(servers)) / 1e9:.2f} GB", "", how),
        ("largest model server", f"{max(servers) / 1e6:.0f} MB", "250 MB", how),
    ]


def release(checkout: Checkout) -> Figure:
    """From a version appearing in the registry to its first answer from production; all at once,
    for a canary takes the time that its settings give it."""
    configure(checkout, "iris", _DIRECT)
    checkout.must("train", "iris")
    registered = time.perf_counter()
    wait_for(lambda: in_production(checkout, "iris", SETOSA, 3), "iris version 3 in production")
    seconds = time.perf_counter() - registered
    return "registered → answering in production", f"{seconds:.1f} s", "30 s", "polled every 0.2 s"


def serving_extra() -> Figure:
    """Installed size of what a Bento needs, without the pip that venv brings."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "site-packages"
        uv = Path(sys.executable).parent / "uv"
        command = [str(uv), "pip", "install", "--quiet", "--require-hashes", "--no-compile"]
        command += ["--target", str(target), "-r", str(ROOT / "requirements" / "serving.lock")]
        subprocess.run([*command, "--python", sys.executable], check=True)
        size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    how = "`uv pip install -r requirements/serving.lock`, without bytecode"
    return "serving extra, installed", f"{size / 1e6:.0f} MB", "200 MB", how


def lines(figures: list[Figure]) -> list[str]:
    """The section of docs/benchmarks.md, with what it was measured on."""
    return [
        f"`python -m benchmarks.platform` on {report.hardware()}; load average "
        f"{os.getloadavg()[2]:.1f}. One run: these machines are noisy.",
        "",
        *report.table(("what", "measured", "target", "how"), figures),
    ]


def main() -> None:
    """Measure, then write."""
    checkout = Checkout.make()
    try:
        figures = [demo(checkout), *memory(checkout), release(checkout), serving_extra()]
    finally:
        checkout.slipway("down")
        checkout.close()
    report.write("Platform", lines(figures))


if __name__ == "__main__":
    main()
