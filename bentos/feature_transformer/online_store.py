"""Reading Feast's online store: one query for each feature view, whatever the number of rows.

`FeatureStore.get_online_features` would look each service up again, and turn every value into
protobuf and back: at 100 entities that takes twice as long as reading the store itself.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bentos.feature_transformer.entity_rows import Row
from bentos.feature_transformer.lookup import Found, ViewPlan
from bentos.feature_transformer.settings import Scalar
from bentos.model_server.breaker import Breaker
from feature_repo.description import Dtype, View

if TYPE_CHECKING:
    from feast import FeatureStore

logger = logging.getLogger("slipway.feature_transformer")

# The member of Feast's Value in which a join key of a type is materialized.
_MEMBERS: dict[Dtype, str] = {
    "int32": "int32_val",
    "int64": "int64_val",
    "float32": "float_val",
    "float64": "double_val",
    "bool": "bool_val",
    "string": "string_val",
}
# A probe's key; whether it is there does not matter.
_EXAMPLES: dict[str, Scalar] = {"bool": False, "string": ""}
# What Redis' client makes of a view that has no timestamp for a key.
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class StoreDownError(RuntimeError):
    """The online store did not answer."""


class OnlineStore:
    """Not thread-safe: to be used from one thread. read_seconds: of one attempt to read."""

    def __init__(self, store: "FeatureStore", views: Sequence[View], read_seconds: float) -> None:
        from feast.infra.provider import get_provider
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        self._config, self._provider = store.config, get_provider(store.config)
        _bound(self._config.online_store, read_seconds)
        self._views = {view.name: store.get_feature_view(view.name) for view in views}
        self._dtypes = {key.name: key.dtype for view in views for key in view.entities}
        self._entity_key: Any = EntityKey
        self._value: Any = Value
        self._prepared = False
        # One for each view: a table that is missing is no outage of the others.
        self._breakers = {
            view.name: Breaker(
                type(self._config.online_store).__name__.removesuffix("Config"),
                store=f"The online feature store of {view.name}",
                meanwhile="requests get what on_store_down says until it is back",
            )
            for view in views
        }

    def _prepare(self) -> None:
        """A connection that was lost is made anew at once; the client's own waits are seconds."""
        if not self._prepared and hasattr(self._config.online_store, "connection_string"):
            from redis.backoff import NoBackoff
            from redis.retry import Retry

            client = self._provider.online_store._get_client(self._config.online_store)
            client.set_retry(Retry(NoBackoff(), 1))
        self._prepared = True

    def read(self, view: ViewPlan, keys: Sequence[Row]) -> list[Found | None]:
        """What there is, by key; StoreDownError."""
        breaker = self._breakers[view.name]
        if not breaker.allows():
            raise StoreDownError("the online store does not answer")
        wanted = [self._key(view, key) for key in keys]
        table = self._views[view.name]
        try:
            self._prepare()
            # A list of its own: Feast adds to it for Redis.
            rows = self._provider.online_read(self._config, table, wanted, [*view.features])
        except Exception as error:  # whatever it is, there are no values
            breaker.failed(error)
            raise StoreDownError(_told(error)) from error
        breaker.succeeded()
        return [_found(at, values, view.features) for at, values in rows]

    def probe(self, view: ViewPlan) -> None:
        """Read a key that need not be there; StoreDownError."""
        dtypes = (self._dtypes[key] for key in view.join_keys)
        self.read(view, [tuple(_EXAMPLES.get(dtype, 0) for dtype in dtypes)])

    def _key(self, view: ViewPlan, key: Row) -> Any:
        values = [
            self._value(**{_MEMBERS[self._dtypes[name]]: value})
            for name, value in zip(view.join_keys, key, strict=True)
        ]
        return self._entity_key(join_keys=view.join_keys, entity_values=values)


def _found(at: datetime | None, values: Any, features: tuple[str, ...]) -> Found | None:
    if at is None or values is None:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    if at == _NEVER:
        return None
    return Found(at, {name: _native(values.get(name)) for name in features})


def _native(value: Any) -> Scalar | None:
    kind = None if value is None else value.WhichOneof("val")
    return None if kind is None else getattr(value, kind)


def _bound(settings: Any, seconds: float) -> None:
    """Give Redis' client an end to its waiting, unless the settings have one."""
    text = getattr(settings, "connection_string", None)
    if text is not None:
        for option in ("socket_timeout", "socket_connect_timeout"):
            if option not in text:
                text += f",{option}={seconds:g}"
        settings.connection_string = text


def _told(error: Exception) -> str:
    """For the log: in words, but for those of a client that may quote a password."""
    name = type(error).__name__
    return f"{name}: {error}" if type(error).__module__ == "sqlite3" else name
