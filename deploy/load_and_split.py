"""A split that first brings up what it names: an A/B between verified versions by one command."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from deploy.events import Actor, Event
from deploy.phases import find
from deploy.release import Release
from deploy.traffic import Traffic
from deploy.weights import require_room_beside, whole_weights


def load_and_split(
    traffic: Traffic,
    environment: str,
    model: str,
    weights: Mapping[str, Any],
    actor: Actor,
    built: Callable[[str], Release],
) -> Event:
    """`Traffic.split`, after `Traffic.load` of the versions with a weight that are not live.

    built: the release of a label. All of them are looked at before the first is loaded; what was
    loaded leaves again where the split fails. Raises what those two do, CertificateError for a
    version without the proof, and whatever `built` raises.
    """
    state = traffic.ledger.state(environment, model)
    missing = [
        label
        for label, weight in whole_weights(weights).items()
        if weight and find(state.live, label) is None
    ]
    releases = [built(label) for label in missing]
    for release in releases:
        release.require_certificate(environment)
        require_room_beside(state, release)
    loaded: list[str] = []
    try:
        for release in releases:
            traffic.load(release, environment, actor)
            loaded.append(release.live().label)
        return traffic.split(environment, model, weights, actor)
    except BaseException:
        for label in loaded:
            with suppress(Exception):  # the first error is the one to tell
                traffic.retire(environment, model, label, actor)
        raise
