"""What a load test can end with."""


class LoadTestError(RuntimeError):
    """The load cannot be sent; the message says what to do about it."""


class RequestsFailedError(RuntimeError):
    """The load was sent and not all of it was answered well."""
