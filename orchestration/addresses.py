"""Addresses as people may see them."""

from urllib.parse import urlsplit


def without_password(uri: str) -> str:
    """The address without user and password, for messages, pages and logs."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
