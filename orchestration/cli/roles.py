"""What a live version is there for, in a word or two."""

from deploy.events import Event, Live


def role(live: Live, event: Event | None) -> str:
    """serves, canary, shadow or resident; event: the last one of the model in its environment."""
    phase = event.phase if event else None
    if live.mirror:
        return f"shadow: a copy of {live.mirror} % of the requests"
    if live.weight == 0:
        return "resident: loaded, without traffic"
    if phase is not None and phase.name == "canary" and phase.candidate == live.label:
        return f"canary, step {phase.step + 1} of {len(phase.policy.get('steps', ()))}"
    return "serves"
