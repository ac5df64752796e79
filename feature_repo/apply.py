"""`python -m feature_repo.apply`: what `feast apply` does, and `description.json`."""

import argparse
import sys
from pathlib import Path
from types import ModuleType

from feature_repo.description import Description, digest, write_description
from feature_repo.home import features_home

# Below the home: by feature view, how far it is materialized (orchestration.features.watermarks).
WATERMARKS = "watermarks"


def apply(home: Path, store: str = "feature_store.yaml") -> Description:
    """Bring the store's registry and online store to the definitions of this code, and write
    `<home>/description.json`; what the definitions no longer have is deleted.

    Doing it again changes nothing. StoreError and DefinitionError are one line each.
    """
    definitions = _definitions()
    from feature_repo.describe import describe
    from feature_repo.sources import read_below
    from feature_repo.store import FOLDER, applied, close_store, feast_objects, open_store

    read_below(home)
    opened = open_store(home, store)
    try:
        objects = feast_objects(definitions)
        description = describe(opened.project, objects, digest(FOLDER / store))
        _forget_gone(home, description)
        applied(opened, store, objects)
    finally:
        close_store(opened)
    write_description(home, description)
    return description


def _forget_gone(home: Path, description: Description) -> None:
    """A view that is gone loses its values: if it comes back, it starts anew."""
    views = {view.name for view in description.views}
    for watermark in (home / WATERMARKS).glob("*.json"):
        if watermark.stem not in views:
            watermark.unlink(missing_ok=True)


def _definitions() -> ModuleType:
    from feature_repo.describe import DefinitionError

    try:
        from feature_repo import definitions
    except Exception as error:
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise DefinitionError(f"the definitions cannot be imported: {said}") from error
    return definitions


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 1 and one line on stderr for what cannot be applied."""
    parser = argparse.ArgumentParser(prog="python -m feature_repo.apply", description=__doc__)
    parser.add_argument("--store", default="feature_store.yaml", help="a file of feature_repo/")
    chosen = parser.parse_args(arguments)
    from feature_repo.describe import DefinitionError
    from feature_repo.store import StoreError

    try:
        description = apply(features_home(), chosen.store)
    except (StoreError, DefinitionError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    views = ", ".join(view.name for view in description.views)
    services = ", ".join(service.name for service in description.services)
    sys.stdout.write(f"applied views {views}; services {services}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
