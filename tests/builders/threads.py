"""Threads that start together."""

import threading
import time

from cylstm.errors import StreamBusyError


def at_once(work, count):
    """What `work(index)` returns on each of so many threads; an exception in one is raised."""
    start, found, errors = threading.Barrier(count), [None] * count, []

    def run(index):
        try:
            start.wait()
            found[index] = work(index)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    return found


def runs_that_meet(acts, least=10, seconds=60):
    """How many calls of threads that share a stream ran, until one was told that it is busy; each thread calls its act.

    A thread goes on for so many turns at least. Where the cores are taken, another may not have begun by then, so the
    turns have no end but the time.
    """
    is_told, until = threading.Event(), time.monotonic() + seconds

    def call(index):
        turn = ran = 0
        while turn < least or (not is_told.is_set() and time.monotonic() < until):
            turn += 1
            try:
                acts[index]()
                ran += 1
            except StreamBusyError as error:
                assert "give each thread its own stream" in str(error)
                is_told.set()
        return ran

    ran = sum(at_once(call, len(acts)))
    assert is_told.is_set() and ran
    return ran
