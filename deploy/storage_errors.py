"""What a storage's exceptions say, for people: in one line and without secrets."""

import os
import re

_PASSWORD = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*@")
_QUERY = re.compile(r"(https?://[^\s?]+)\?\S+")
_CREDENTIALS = re.compile("credential|auth|unauthorized|forbidden", re.IGNORECASE)
# What is no storage's doing.
DEFECTS = (MemoryError, AttributeError, NameError, TypeError)


def has_credentials(url: str) -> bool:
    """Whether a password or a signature stands in it."""
    return bool(_PASSWORD.search(url) or _QUERY.search(url))


def shown(text: str) -> str:
    """A location or message for people: without passwords and signatures."""
    return _QUERY.sub(r"\1", _PASSWORD.sub("", text))


def reason(problem: Exception) -> str:
    """What a storage's or file's exception says."""
    if isinstance(problem, ImportError):
        return f"a package is missing: {problem}"
    if isinstance(problem, FileNotFoundError):
        return "not there"
    if _CREDENTIALS.search(type(problem).__name__):
        return f"credentials are missing or were refused ({type(problem).__name__})"
    if isinstance(problem, NotImplementedError):
        return "this storage cannot do that"
    if isinstance(problem, PermissionError):
        return "no permission, or wrong credentials"
    if isinstance(problem, OSError) and problem.errno:
        return os.strerror(problem.errno).lower()
    line = next(iter(str(problem).splitlines()), "")[:300]
    return shown(line).rstrip(".") or type(problem).__name__
