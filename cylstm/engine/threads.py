"""How many threads a call may use, and how many it does."""

from __future__ import annotations

import os
import threading

from cylstm.errors import ArgumentError

#: Multiply-adds of a call, some 20 us on one thread, below which waking sleeping threads costs more than they bring.
THREADS_WORK = 1e6

#: set through threadpoolctl; None means no limit
_limit: int | None = None
_registered = False
_lock = threading.RLock()


def _release_in_child() -> None:
    """A thread that is registering has no part in a forked child, which would wait for it for ever."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)


def _from_environment(name: str) -> int | None:
    text = os.environ.get(name, "").split(",")[0].strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= 1024 else None


def check_environment() -> None:
    """Raise `ArgumentError` if ``CYLSTM_NUM_THREADS`` is set to what is no number of threads.

    That of OpenMP belongs to other programs too, and is passed over where it is none.
    """
    text = os.environ.get("CYLSTM_NUM_THREADS", "").strip()
    if text and _from_environment("CYLSTM_NUM_THREADS") is None:
        raise ArgumentError(f"CYLSTM_NUM_THREADS: expected a whole number of 1 to 1024, found {text!r:.80}")


def available_threads() -> int:
    """The most threads a call uses by itself.

    The first of these that is set wins: a threadpoolctl limit, ``CYLSTM_NUM_THREADS``, ``OMP_NUM_THREADS``, the
    number of CPUs in the process's affinity mask.

    Raises
    ------
    ArgumentError
        As `check_environment`.
    """
    register()
    check_environment()
    return _available()


def _available() -> int:
    """As `available_threads`; also where an error would be one of other libraries, which threadpoolctl asks too."""
    limit = _limit  # read once: another thread may lift it
    if limit is not None:
        return limit
    for name in ("CYLSTM_NUM_THREADS", "OMP_NUM_THREADS"):
        number = _from_environment(name)
        if number is not None:
            return number
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def register() -> None:
    """Make ``threadpoolctl.threadpool_limits`` govern CyLSTM too.

    Once: with the first model if threadpoolctl is imported by then; else, because importing it costs 3 ms, at the first
    call that may be parallel.
    """
    if _registered:
        return
    with _lock:
        _register()


def _register() -> None:
    global _registered
    if _registered:
        return
    import threadpoolctl

    from cylstm._version import __version__

    class CylstmController(threadpoolctl.LibController):  # type: ignore[misc]
        """What threadpoolctl's limits and its listing of thread pools see of this package."""

        user_api = "cylstm"
        internal_api = "cylstm"
        filename_prefixes = ("_engine",)
        check_symbols = ("cyl_threads_name",)

        def get_num_threads(self) -> int:
            return _available()

        def set_num_threads(self, num_threads: int) -> None:
            set_limit(int(num_threads))

        def get_version(self) -> str:
            return __version__

        def set_additional_attributes(self) -> None:
            pass

    threadpoolctl.register(CylstmController)
    _registered = True


def set_limit(threads: int) -> None:
    """Set the maximum number of threads. Setting it to the number that is used without a limit removes the limit."""
    global _limit
    with _lock:
        _limit = None
        if threads != _available():
            _limit = threads
