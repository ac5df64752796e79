"""Which tests share a process where pytest runs several (`-n`): `make test` runs two."""

from pathlib import Path

import pytest

END_TO_END = Path(__file__).parent / "end_to_end"


# First: xdist reads the groups in this hook, too.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each file by itself, for its fixtures' sake; the end-to-end tests have one platform, take the
    longest and wait most of the time, so they come first and the others run beside them."""
    items.sort(key=lambda item: END_TO_END not in item.path.parents)
    for item in items:
        together = END_TO_END if END_TO_END in item.path.parents else item.path
        item.add_marker(pytest.mark.xdist_group(str(together)))
