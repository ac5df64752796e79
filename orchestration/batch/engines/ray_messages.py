"""What the engine and its driver, a process of its own, tell each other."""

from dataclasses import dataclass

import msgspec

from bentos.model_server.contract import Contract
from orchestration.batch.documents import Plan, Receipt
from orchestration.batch.work import Work


@dataclass(frozen=True)
class Job:
    """To the actors, pickled: all that they need to score a part."""

    plan: Plan
    contract: Contract
    model: bytes
    work: Work


@dataclass(frozen=True)
class Order:
    """To the driver, pickled. parts: their numbers; address: of a cluster, None for a Ray of its
    own, which gets `workers` CPUs and keeps its files in `folder`; timeout: seconds without
    progress."""

    job: Job
    parts: tuple[int, ...]
    address: str | None
    workers: int
    folder: str
    timeout: float


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """Ray was imported; now it is started, or the cluster called."""


class Connected(msgspec.Struct, frozen=True, tag="connected"):
    """Work begins."""


class Done(msgspec.Struct, frozen=True, tag="done"):
    """A part is."""

    receipt: Receipt


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The job is. kind: a class of `errors`; message: its sentence."""

    kind: str
    message: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """All parts are done."""


Message = Loaded | Connected | Done | Failed | Ended


def encode(message: Message) -> bytes:
    """For the pipe, and for the rows that actors answer with."""
    return msgspec.json.encode(message)


def decode(data: bytes) -> Message:
    """The counterpart."""
    message: Message = msgspec.json.decode(data, type=Message)
    return message
