"""Who runs the command."""

import getpass
import os


def user_name() -> str:
    """The login name; `uid 1234` where the system has none, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # which one depends on Python's version
        return f"uid {os.getuid()}"
