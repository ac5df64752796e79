"""Sources: all `*.parquet` in `$SLIPWAY_FEATURES_HOME/sources/<source>/`.

A file has the entity's key, `event_timestamp` (when the values became true), `created_timestamp`
(when the row was written: the later of two rows of one moment counts) and the features. Both times
have a time zone. Write a file under a name that does not end in .parquet, then rename it.
"""

from pathlib import Path

from feast import FileSource, PushSource
from feast.data_format import ParquetFormat

from feature_repo.home import features_home

_SOURCES: list[FileSource] = []


def _path(home: Path, name: str) -> str:
    return str(home / "sources" / name)


def _parquet(name: str, description: str) -> FileSource:
    source = FileSource(
        name=name,
        path=_path(features_home(), name),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        description=description,
    )
    _SOURCES.append(source)
    return source


customer_profile_source = _parquet("customer_profile", "A snapshot of every customer, each day.")
customer_activity_source = _parquet("customer_activity", "What customers bought and sent back.")
sender_activity_source = _parquet("sender_activity", "What senders sent, and reports about them.")

customer_activity_push = PushSource(
    name="customer_activity_push",
    batch_source=customer_activity_source,
    description="Activity as it happens, straight to the online store.",
)


def read_below(home: Path) -> None:
    """Let the sources read below another home than the environment's."""
    for source in _SOURCES:
        source.file_options.uri = _path(home, source.name)
