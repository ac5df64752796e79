"""The driver: a process of its own that hands the parts to Ray Data.

Ray prints to stdout, takes over signals, sets variables of the environment and ends a process that
loses its cluster; none of that may happen to the command or the Dagster run that wants a result.
"""

import logging
import os
import pickle
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Event, Thread

import psutil

from orchestration.batch.engines.ray_messages import (
    Connected,
    Ended,
    Failed,
    Loaded,
    Message,
    Order,
    encode,
)
from orchestration.batch.engines.ray_process import session
from orchestration.batch.engines.ray_worker import Attempts, PartScorer
from orchestration.batch.errors import EngineError

# What an actor asks for, while it keeps a core busy: half of the cluster stays free, so a second
# job gets its actors, and whatever Ray Data itself wants to run never waits for the pool.
_CPUS_OF_AN_ACTOR = 0.5
_OBJECT_STORE_BYTES = 256 * 1024 * 1024


def main() -> None:
    """Its argument is the pipe's file descriptor; what is printed goes to the engine's log."""
    pipe = Connection(int(sys.argv[1]))
    os.set_inheritable(pipe.fileno(), False)  # else its Ray would keep it open
    order: Order = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from the process that started us
    over = Event()
    engine = Thread(target=_end_with, args=(pipe, over, order.folder), daemon=True)
    engine.start()
    try:
        _drive(order, pipe)
        last: Message = Ended()
    except EngineError as error:
        last = Failed(EngineError.__name__, str(error))
    over.set()
    pipe.send_bytes(encode(last))
    engine.join()  # it looks at what of Ray is still there, then closes the pipe
    _shut_down()
    shutil.rmtree(order.folder, ignore_errors=True)  # should the engine have been killed
    os._exit(0)  # what Python would do on its way out takes 2 s


def _end_with(pipe: Connection, over: Event, folder: str) -> None:
    """The engine sends nothing more: what comes is its end. Ray's agents would outlive us."""
    try:
        pipe.recv_bytes()
    except (EOFError, OSError):
        if not over.is_set():
            for process in session(os.getpid()):
                with suppress(psutil.NoSuchProcess):
                    if process.pid != os.getpid():
                        process.kill()
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(1)


def _shut_down() -> None:
    import ray

    ray.shutdown()


def _drive(order: Order, pipe: Connection) -> None:
    from ray.data.exceptions import ExecutionTimeoutError

    warnings.simplefilter("ignore")
    pipe.send_bytes(encode(Loaded()))
    _connect(order)
    pipe.send_bytes(encode(Connected()))
    try:
        for message in _messages(order):
            pipe.send_bytes(message)
    except ExecutionTimeoutError as error:
        raise EngineError(
            f"no part was done in {order.timeout:g} seconds (batch.limits.part_timeout_seconds): "
            f"{_free_cpus()}"
        ) from error


def _connect(order: Order) -> None:
    import ray

    try:
        if order.address is None:
            _start(order)
        else:
            ray.init(address=order.address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises a dozen classes without a common base
        where = "here" if order.address is None else f"at RAY_ADDRESS={order.address}"
        reason = str(error).strip().partition("\n")[0]
        raise EngineError(f"no Ray cluster {where}: {reason}") from error


def _start(order: Order) -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=order.workers,
        object_store_memory=_OBJECT_STORE_BYTES + 2 * len(order.job.model),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
        _temp_dir=order.folder,
    )


def _messages(order: Order) -> Iterator[bytes]:
    """The actors' answers, part by part as they are done.

    The numbers lie in the object store from the start, one block for each: no read task competes
    with the actors for CPUs, and each part is a task, retried by itself.
    """
    import ray
    from ray.data import ActorPoolStrategy

    parts = list(order.parts)
    size = min(len(parts), int(_cpus(ray.cluster_resources()) or 1))
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
    dataset = ray.data.from_items(parts, override_num_blocks=len(parts)).map_batches(
        PartScorer,
        batch_size=1,
        num_cpus=_CPUS_OF_AN_ACTOR,
        fn_constructor_args=([ray.put(order.job)], attempts),
        compute=ActorPoolStrategy(min_size=1, initial_size=size, max_size=size),
    )
    dataset.context.enable_progress_bars = False
    dataset.context.execution_no_progress_timeout_s = order.timeout
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from table["message"].to_pylist()


def _free_cpus() -> str:
    import ray

    free, present = _cpus(ray.available_resources()), _cpus(ray.cluster_resources())
    return f"{free:g} of the {present:g} CPUs of Ray are free"


def _cpus(resources: dict[str, float]) -> float:
    return resources.get("CPU", 0.0)


if __name__ == "__main__":
    main()
