"""MLflow without Feast's plugin."""

from threading import Lock

_LOCK = Lock()
_done = False


def leave_out_feast() -> None:
    """Keep MLflow from importing Feast at its first request to a server.

    Feast registers a provider of request headers with MLflow, for its own servers; loading it
    imports all of Feast, 6 to 18 s and 200 MB in every process that asks the registry. To be called
    before the first request; not again needed after it.
    """
    global _done
    with _LOCK:
        if _done:
            return
        from mlflow.utils import plugins

        found = plugins.get_entry_points
        plugins.get_entry_points = lambda group: [
            item for item in found(group) if not item.value.startswith("feast.")
        ]
        try:
            import mlflow.tracking.request_header.registry  # noqa: F401
        finally:
            plugins.get_entry_points = found
        _done = True
