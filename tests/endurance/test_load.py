"""Many streams, many threads and many processes at once: every row's bits are those that it has alone."""

import os

import numpy as np
import pytest

from tests.builders.networks import lstm_model, same, same_states
from tests.endurance import WHOLE, run

ROWS, BLOCKS, STEPS = (1000, 360, 1000) if WHOLE else (40, 6, 150)


class User:
    """One who is served: a stream of its own says what it must get. `saved` is its state while it has no row."""

    def __init__(self, model):
        self.alone, self.saved = model.stream(), None


def check(user, x, found):
    """The rows of a user since the last check, all of which it took."""
    if len(x):
        assert same(user.alone.run(x), found)


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_rows_that_enter_and_leave_at_random_get_what_streams_of_their_own_get(rng, dtype):
    """An hour of a service at 100 steps a second, if it is the whole; three rows of four advance at each step."""
    model = lstm_model(rng, 3, 9, num_layers=2)
    if dtype:
        model = model.quantize(dtype)
        if WHOLE:
            pytest.skip("the whole hour is served in float32")
    stream = model.stream(ROWS)
    users = [User(model) for _ in range(ROWS * 3 // 2)]
    seated, waiting = list(range(ROWS)), list(range(ROWS, len(users)))
    moves = 0
    for _ in range(BLOCKS):
        x = rng.standard_normal((STEPS, ROWS, 3), dtype=np.float32)
        found = np.empty((STEPS, ROWS, 3), np.float32)
        active = rng.random((STEPS, ROWS), dtype=np.float32) < 0.75
        begins = np.zeros(ROWS, int)
        for t in range(STEPS):
            while rng.random() < 0.4:
                row, other = rng.integers(ROWS), rng.integers(len(waiting))
                user = users[seated[row]]
                taken = active[begins[row] : t, row]
                check(user, x[begins[row] : t, row][taken], found[begins[row] : t, row][taken])
                if rng.random() < 0.3:  # it hangs up
                    users[seated[row]] = User(model)
                else:
                    user.saved = stream.copy(row).state
                    assert same_states(user.saved, user.alone.state)
                seated[row], waiting[other] = waiting[other], seated[row]
                begins[row] = t
                user = users[seated[row]]
                if user.saved is None:
                    stream.reset(row)
                else:
                    stream.replace(row, user.saved)
                moves += 1
            stream.step(x[t], active=active[t], out=found[t])
        for row in range(ROWS):
            taken = active[begins[row] :, row]
            check(users[seated[row]], x[begins[row] :, row][taken], found[begins[row] :, row][taken])
    assert moves > BLOCKS * STEPS / 10


#: arguments: the number of threads, of children, and of turns of each
EVERYBODY = """
import os, signal, sys, threading
import numpy as np
import cylstm
from tests.builders.networks import lstm_model, same

callers, children, turns = map(int, sys.argv[1:])
rng = np.random.default_rng(5)
model = lstm_model(rng, 12, 70, num_layers=2)
inputs = [rng.normal(size=shape).astype(np.float32) for shape in ((1, 90, 12), (3, 41, 12), (64, 7, 12))]
wanted = [model.predict(x, threads=1) for x in inputs]
failed = []


def call(number):
    try:
        for turn in range(turns):
            i = (number + turn) % len(inputs)
            threads = (None, 1, 2, 4)[(number + turn) % 4]
            assert same(model.predict(inputs[i], threads=threads), wanted[i]), (number, turn)
            stream = model.stream(len(inputs[i]), threads=threads or 1)
            half = inputs[i].shape[1] // 2
            parts = [stream.run(inputs[i][:, :half]), stream.run(inputs[i][:, half:])]
            assert same(np.concatenate(parts, axis=1), wanted[i]), (number, turn)
    except BaseException as error:
        failed.append(error)


def together(first, count):
    threads = [threading.Thread(target=call, args=(first + n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads


threads = together(0, callers)
pids = []
for child in range(children):  # while the threads are inside calls
    pid = os.fork()
    if pid == 0:
        signal.alarm(100)
        failed.clear()
        call(100 + child)
        for thread in together(200 + child, 4):
            thread.join()
        print(*failed, file=sys.stderr)
        os._exit(len(failed) > 0)
    pids.append(pid)
for thread in threads:
    thread.join()
print([os.waitpid(pid, 0)[1] for pid in pids], failed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("threads", ["pool", "openmp"])
def test_sixteen_threads_and_four_forked_processes_share_a_model(threads):
    for _ in range(10 if WHOLE else 1):
        found = run(EVERYBODY, "16", "4", "200" if WHOLE else "12", CYLSTM_THREADS=threads)
        assert found.split("\n")[0] == "[0, 0, 0, 0] []"
