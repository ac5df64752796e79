"""docs/benchmarks.md: each part of it is written by itself and leaves the others as they are."""

import os
import platform as machine
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

RESULT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
TITLE = "# Benchmarks"


_STARTED = time.monotonic()


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"[{time.monotonic() - _STARTED:4.0f} s] {text}", file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return [lines[0], f"|{'---|' * len(head)}", *lines[1:]]


def hardware() -> str:
    """What it ran on."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{machine.system()} {machine.machine()}, {_cpu()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, Python {machine.python_version()}"
    )


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else machine.processor() or "unknown CPU"


def replaced(document: str, heading: str, lines: Sequence[str]) -> str:
    """The document with the section `## heading` exchanged, or put at the end."""
    head, *sections = re.split(r"^(?=## )", document, flags=re.MULTILINE)
    section = "\n".join([f"## {heading}", "", *lines]).rstrip() + "\n"
    names = [text.splitlines()[0].removeprefix("## ") for text in sections]
    if heading in names:
        sections[names.index(heading)] = section
    else:
        sections.append(section)
    parts = [head.strip() or TITLE, *(text.strip() for text in sections)]
    return "\n\n".join(parts) + "\n"


def write(heading: str, lines: Sequence[str]) -> None:
    """Exchange one section of docs/benchmarks.md."""
    document = RESULT.read_text(encoding="utf-8") if RESULT.exists() else ""
    RESULT.write_text(replaced(document, heading, lines), encoding="utf-8")
    print("\n".join(lines))
