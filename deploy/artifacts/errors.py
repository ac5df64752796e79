"""What may be wrong with artifacts. Not there, not reachable and not whole are three things."""


class ArtifactsError(RuntimeError):
    """One sentence says what is wrong."""


class StoreError(ArtifactsError):
    """The store cannot be used now: nobody knows what it has."""


class MissingArtifactError(ArtifactsError):
    """The store answers, and does not have it."""


class DamagedArtifactError(ArtifactsError):
    """What the store has is not what its digest says, or is nothing that is taken from there."""
