"""The errors of an export: one clear sentence each, with what to do about it."""


class ExportError(RuntimeError):
    """A model version that could not be turned into ONNX."""


class UnservableModel(ExportError):  # noqa: N818  it names a state of the model
    """A model version that cannot be served as it was logged; the message names the fix."""
