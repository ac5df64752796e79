"""Whether the packages of a Bento's requirements.txt are installed here in just those versions."""

import importlib.metadata
import sys
from pathlib import Path


def problems(requirements: str) -> list[str]:
    """One clause for each line `name==version` that is not so."""
    found = []
    for line in filter(None, map(str.strip, requirements.splitlines())):
        name, _, wanted = line.partition("==")
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        if installed != wanted:
            found.append(f"{name} is {installed}, the Bento was verified with {wanted}")
    return found


def main() -> None:
    """The command."""
    if wrong := problems(Path(sys.argv[1]).read_text(encoding="utf-8")):
        sys.exit(f"requirements/serving.lock is not the Bento's: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
