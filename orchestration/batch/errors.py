"""What goes wrong with a batch job, in one sentence each."""


class BatchError(RuntimeError):
    """A job that cannot be started or did not end well; nothing of its result is visible. The
    message names what is wrong (file, column, value) and what helps."""


class InputError(BatchError):
    """The input is not what the model's contract takes, or cannot be read."""


class OutputError(BatchError):
    """The output is there already, in use by another job, or cannot be written."""


class EngineError(BatchError):
    """The engine cannot be had, or its workers fail."""
