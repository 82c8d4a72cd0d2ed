"""Worker processes that neither outlive the process that started them nor complain when the user interrupts it."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor


def pool(workers: int) -> ProcessPoolExecutor:
    """A pool of freshly started processes, on every platform alike."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _follow_parent)


def _follow_parent() -> None:
    """End this worker when the process that started it is killed; it would wait for work for ever otherwise."""
    # Ctrl-C reaches workers too; only the process that started them answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
