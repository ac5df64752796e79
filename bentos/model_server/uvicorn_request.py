"""Short cuts through uvicorn's own state of a request, where it is the uvicorn that we know.

ASGI hands a body over by an event that has long happened, and takes head and body of an answer
apart; uvicorn checks every header name against regular expressions and writes twice to the
socket: two system calls and two packets. That is more than half of what a small model's request
costs beyond uvicorn's parsing. Here a body that has come is taken as it is, and an answer is
written at once. Where anything is not as expected, the way is ASGI's; a test holds both ways to
the same bytes, and another that the short one is taken with the locked uvicorn.
"""

from typing import Any

try:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle as _Cycle
except ImportError:  # another uvicorn, or httptools is missing
    _Cycle = None  # type: ignore[assignment, misc]

_EXPECTED = {
    "body", "default_headers", "disconnected", "flow", "keep_alive", "message_event", "more_body",
    "on_response", "response_complete", "response_started", "transport", "waiting_for_100_continue",
}  # fmt: skip
# The names that its __init__ sets: what a uvicorn of the future may have changed.
KNOWN: type | None = (
    _Cycle if _Cycle is not None and {*_Cycle.__init__.__code__.co_names} >= _EXPECTED else None
)
# Beyond it uvicorn stops reading from the socket until the body is asked for.
LARGEST_BODY = 65_536


def of(receive: Any) -> Any:
    """uvicorn's request behind an ASGI `receive`, or None where it is not one that we know."""
    cycle = getattr(receive, "__self__", None)
    return cycle if cycle is not None and type(cycle) is KNOWN else None


def peer(cycle: Any) -> str | None:
    """The socket's other end, whatever a header says: an IP address; None for a UNIX socket."""
    address = cycle.on_response.__self__.client
    return address[0] if address else None


def whole_body(cycle: Any) -> bytes | None:
    """The body, if all of it has come and the client is there; else None: ask ASGI."""
    if cycle.more_body or cycle.disconnected or len(cycle.body) > LARGEST_BODY:
        return None
    body = bytes(cycle.body)
    cycle.body = bytearray()
    return body


def write(cycle: Any, head: bytes, body: bytes) -> bool:
    """Write an answer in one go, and end the request as uvicorn does.

    head: the status line and all headers but uvicorn's own, each with its line's end. False where
    nothing was written and ASGI has to: the client reads too slowly, it has left, or the
    connection is to be closed.
    """
    if (
        cycle.disconnected
        or cycle.response_started
        or not cycle.keep_alive
        or cycle.flow.write_paused
    ):
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    own = b"".join([b"%b: %b\r\n" % header for header in cycle.default_headers])
    cycle.transport.write(b"%b%b\r\n%b" % (head, own, body))
    cycle.message_event.set()
    cycle.on_response()
    return True
