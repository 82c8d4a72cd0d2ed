"""The pump: results in order, few items under way, and one line where a process is killed."""

import os
import signal
import threading

import pytest

from unveil import workers
from unveil.errors import UnveilError


def square(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGTERM)
    return number * number


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_order(count):
    assert list(workers.in_order(square, range(20), count)) == [number * number for number in range(20)]


def test_only_a_few_items_are_under_way():
    begun, gate = [], threading.Event()

    def begin(number: int) -> int:
        begun.append(number)
        gate.wait(5)
        return number

    results = workers.in_order(begin, iter(range(100)), 2)
    threading.Timer(0.1, gate.set).start()
    assert next(results) == 0 and len(begun) <= 5
    results.close()
    assert len(begun) <= 6


def test_an_error_of_the_work_comes_through():
    with pytest.raises(ZeroDivisionError):
        list(workers.in_order(lambda number: 1 // number, [1, 0, 2], 2))


@pytest.mark.skipif(os.name != "posix", reason="kills a process as POSIX systems do")
def test_a_killed_process_is_one_clear_line():
    with pytest.raises(UnveilError, match="worker process was killed.*fewer workers") as caught:
        list(workers.in_order(square, [1, -1, 2], 2, processes=True))
    assert "\n" not in str(caught.value)
