"""Reads one file per line of standard input, each in a child of its own with little memory; hostile.py starts it.

Prints one JSON object per file: the name of the error's class and its message, seconds of CPU, and the growth of the
peak memory in bytes. A child that was killed has ``"error": null`` and its signal.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings

from cylstm.formats.state_dict.wiring import LSTM, Last, Linear
from cylstm.loading import read

LAYERS = [LSTM("lstm"), Last(), Linear("fc")]


def address_space() -> int:
    """Bytes of virtual memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def peak() -> int:
    """Most bytes that this process has had in memory since `reset_peak`."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024


def reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def wiring(path: str) -> list | None:
    """The layers of a state dict; other files hold their own."""
    return None if path.endswith((".cylstm", ".keras", ".h5")) else LAYERS


def attempt(path: str, room: int, layers: bool, options: dict[str, object]) -> dict[str, object]:
    """Read `path` with at most `room` more bytes of address space than now."""
    limit = address_space() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    reset_peak()
    before, start = peak(), time.process_time()
    try:
        graph = read(path, layers=wiring(path) if layers else None, **options)
        result: dict[str, object] = {"error": "none", "message": f"a graph of {len(graph.tensors)} tensors"}
    except BaseException as error:
        result = {"error": type(error).__name__, "message": str(error)[:1000] + str(error)[-1000:]}
    return {**result, "seconds": time.process_time() - start, "memory": peak() - before}


def main() -> None:
    warnings.simplefilter("ignore")
    warm = sys.argv[1:]
    for path in warm:  # import everything, so that a child pays for the file alone
        read(path, layers=wiring(path))
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            with os.fdopen(writer, "w") as file:
                json.dump(attempt(**request), file)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as file:
            text = file.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(text or json.dumps({"error": None, "message": f"ended with {status}"}), flush=True)


if __name__ == "__main__":
    main()
