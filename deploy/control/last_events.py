"""The event behind each state, read from the ledger only where the state has moved."""

from deploy.events import Event, State
from deploy.ledger import Ledger


class LastEvents:
    """For one thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[tuple[str, str], Event] = {}

    def has_moved(self, state: State) -> bool:
        """Whether the state is another one than that of the event that was read last."""
        known = self._known.get((state.environment, state.model))
        return known is None or known.generation != state.generation

    def of(self, state: State) -> Event | None:
        """The event that led to the state, or to a later one; None where the ledger has none."""
        key = (state.environment, state.model)
        if self.has_moved(state) and (event := self._ledger.last_event(*key)) is not None:
            self._known[key] = event
        return self._known.get(key)
