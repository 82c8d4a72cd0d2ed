"""The one pump through which work goes to threads or processes: in order, and a little at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from unveil.errors import UnveilError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 1, processes: bool = False
) -> Iterator[Result]:
    """Results in the order of the items, with at most two items per worker under way.

    Threads serve where the work releases the interpreter lock (compiled kernels, zlib, files); processes where it does
    not, and then function and items must pickle. With one worker everything happens here. Raises UnveilError where a
    process is killed.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    # Spawned on every platform alike: a fork would take locks of other threads along.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, _follow_parent) if processes else ThreadPoolExecutor(workers)
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        why = "a worker process was killed, perhaps for want of memory"
        raise UnveilError(f"{why}: run the same again with fewer workers; what is finished stays") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """End this worker when the process that started it is killed; it would wait for work for ever otherwise."""
    # Ctrl-C reaches workers too; only the process that started them answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
