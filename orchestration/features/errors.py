"""The one error of this package."""


class FeatureError(RuntimeError):
    """What is wrong with features, and what helps, in one sentence."""
