"""A container's health check: exit code 0 if what the command line names answers.

`http://host:port/path`: with a status below 400. `unix:/socket:/path`: the same on a UNIX socket.
`tcp:host:port` and `unix:/socket`: takes a connection. Only the standard library, so that it costs
little each time.
"""

import http.client
import socket
import sys
from http import HTTPStatus
from urllib.parse import urlsplit

_SECONDS = 2.5


class _OverUnixSocket(http.client.HTTPConnection):
    """HTTP on a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("localhost")
        self.sock = connected


def _unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(_SECONDS)
    made.connect(path)
    return made


def check(target: str) -> None:
    """Raise OSError or HTTPException, which says why, unless it answers."""
    kind, _, rest = target.partition(":")
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        socket.create_connection((host, int(port)), _SECONDS).close()
    elif kind == "unix":
        path, _, route = rest.partition(":")
        connected = _unix(path)
        if route:
            _ask(_OverUnixSocket(connected), route)
        connected.close()
    else:
        url = urlsplit(target)
        _ask(http.client.HTTPConnection(url.netloc, timeout=_SECONDS), url.path)


def _ask(connection: http.client.HTTPConnection, route: str) -> None:
    connection.request("GET", route)
    answer = connection.getresponse()
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise OSError(f"{answer.status} {answer.read(300)!r}")


def main() -> None:
    """The command; the reason goes to the container's health log."""
    for target in sys.argv[1:]:
        try:
            check(target)
        except (OSError, ValueError, http.client.HTTPException) as error:
            sys.exit(f"{target}: {error}")


if __name__ == "__main__":
    main()
