"""CyLSTM in one process with other libraries: whatever is imported first, and whatever they have set."""

import contextlib
import ctypes
import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import threadpoolctl

import cylstm
from cylstm.engine import threads as threads_of_engine
from cylstm.errors import CylstmError

from tests.builders.networks import lstm_model, lstm_state_dict
from tests.endurance import WHOLE, run
from tests.forecasting.builders import one_shot, series

#: each part imports one library and makes it compute
PARTS = {
    "numpy": "import numpy\na = numpy.ones((200, 200)); assert (a @ a == 200).all()\n",
    "scipy": "import scipy.linalg\nscipy.linalg.lu_factor(scipy.linalg.hilbert(50))\n",
    "sklearn": "from sklearn.cluster import KMeans\nimport numpy as np\n"
    "KMeans(3, n_init=1, random_state=1).fit(np.random.default_rng(1).normal(size=(100, 4)))\n",
    "torch": "import torch\ntorch.set_num_threads(2)\n(torch.ones(300, 300) @ torch.ones(300, 300)).sum()\n",
    "tensorflow": "import tensorflow\ntensorflow.linalg.matmul(tensorflow.ones((99, 99)), tensorflow.ones((99, 99)))\n",
    "cylstm": """
import numpy as np
import cylstm
from tests.builders.networks import lstm_model
model = lstm_model(np.random.default_rng(1), 40, 256)
cylstm.engine._engine.wait_for_threads(10.0)
x = np.random.default_rng(2).normal(size=(1, 200, 40)).astype(np.float32)
results.append(model.predict(x, threads=2).tobytes())
through_blas = cylstm.Model(model.graph, engine="blas").predict(x, threads=2)
np.testing.assert_allclose(through_blas, model.predict(x), rtol=0, atol=1e-5)
from threadpoolctl import threadpool_info, threadpool_limits
assert sum(info["user_api"] == "cylstm" for info in threadpool_info()) == 1
with threadpool_limits(1):
    assert [info["num_threads"] for info in threadpool_info()] == [1] * len(threadpool_info())
    results.append(model.predict(x).tobytes())
""",
}
THERE = [name for name in PARTS if importlib.util.find_spec(name)]
#: of the slice, what is quick to import: PyTorch and scikit-learn are in tests/engine/test_beside_other_libraries.py
QUICK = [name for name in ("numpy", "scipy") if name in THERE]


def orders_of(names, depth):
    """Orders of all names in which each `depth` of them stand in each order: some 40 of the 720 of six, for four."""
    left = set(itertools.permutations(names, depth))
    while left:
        best, best_found = (), set()
        for order in itertools.permutations(names):
            found = left.intersection(itertools.combinations(order, depth))
            if len(found) > len(best_found):
                best, best_found = order, found
        left -= best_found
        yield best


if not WHOLE:
    ORDERS = [(*QUICK, "cylstm"), ("cylstm", *QUICK)]
elif os.environ.get("CYLSTM_TEST_ORDERS") == "all":
    ORDERS = list(itertools.permutations(THERE))
else:
    ORDERS = list(orders_of(THERE, min(4, len(THERE))))


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_the_bits_are_the_same_in_every_order_of_imports(order):
    program = "results = []\n" + "".join(PARTS[name] for name in order) + PARTS["cylstm"]
    run(program + "assert len(set(results)) == 1 and len(results) == 4\n")


# ---- what the caller has set stays, and no result depends on it ----

#: of fesetround on x86; elsewhere the modes of this test are not set
ROUNDING = {"nearest": 0x000, "down": 0x400, "up": 0x800, "to zero": 0xC00}
IS_X86 = sys.platform == "linux" and os.uname().machine == "x86_64"


class Registers(ctypes.Structure):
    """fenv_t of glibc on x86-64: 28 bytes of the x87, then MXCSR."""

    _fields_ = [("x87", ctypes.c_uint8 * 28), ("mxcsr", ctypes.c_uint32)]


MODES = {
    "as it comes": 0x1F80,
    "flushing": 0x1F80 | 0x8040,  # subnormal results and operands
    "down": 0x3F80,
    "up and flushing": 0x5F80 | 0x8040,
    "to zero": 0x7F80,
}


def mode():
    """MXCSR without the flags of what has happened."""
    registers = Registers()
    ctypes.CDLL(None).fegetenv(ctypes.byref(registers))
    return registers.mxcsr & ~0x3F


def set_mode(mxcsr):
    libm, registers = ctypes.CDLL(None), Registers()
    libm.fegetenv(ctypes.byref(registers))
    registers.mxcsr = mxcsr
    libm.fesetenv(ctypes.byref(registers))


class Calls:
    """What users call, each with a result that can be compared; those that fail give their errors."""

    def __init__(self, folder):
        rng = np.random.default_rng(7)
        self.folder = folder
        self.tensors = {
            name: array + rng.normal(size=array.shape) * 1e-9 for name, array in lstm_state_dict(rng, 3, 9).items()
        }
        self.model = lstm_model(rng, 3, 9, num_layers=2)
        self.long = lstm_model(rng, 3, 64)
        self.blas = cylstm.Model(self.model.graph, engine="blas")
        self.stream = self.model.stream(2)
        self.x = rng.normal(size=(2, 15, 3)) / 3
        self.x32 = self.x.astype(np.float32)
        self.long_x = np.repeat(self.x, 400, axis=1)
        self.forecaster, self.history = one_shot(rng, 3).calibrate(series(rng, 60), 10), series(rng, 30)
        self.model.save(folder / "net.cylstm")
        np.savez(folder / "net.npz", **{name: array.astype(np.float32) for name, array in self.tensors.items()})
        (folder / "rows.csv").write_text("a,b,c\n0.1,1.25e-3,-7.7\n0.3,2.5,1e5\n")

    def load(self):
        model = cylstm.from_state_dict(self.tensors, [cylstm.LSTM("lstm")], dtype="float32")
        return model.predict(self.x32)

    def files(self):
        loaded = cylstm.load(self.folder / "net.cylstm")
        other = cylstm.load(self.folder / "net.npz", layers=[cylstm.LSTM("lstm")])
        loaded.save(self.folder / "again.cylstm", metadata={"scale": 0.1})
        return loaded.predict(self.x), other.predict(self.x), (self.folder / "again.cylstm").read_bytes()

    def predict(self):
        return (
            self.model.predict(self.x32),
            self.model.predict(self.x),
            self.model.predict(self.x.tolist()),
            self.model.predict(self.x, lengths=[15, 4], threads=2),
            self.model.predict(self.x[:, ::2]),
            self.long.predict(self.long_x, threads=2),
        )

    def run(self):
        stream = self.model.stream(2)
        found = [stream.run(self.x[:, :7]), stream.step(self.x[:, 7]), stream.step(self.x[:, 8].tolist())]
        stream.state = [tuple(array.astype(float) for array in parts) for parts in self.model.stream(2).state]
        return [*found, stream.run(self.x[:, 9:]), stream.trace_run(self.x)["lstm.l0"].h]

    def explain(self):
        from cylstm.explain import gradients

        small = self.model.quantize("float16")
        return (
            self.model.trace(self.x)["lstm.l1"].c,
            gradients(self.model, self.x[0], (-1, 2)).values,
            small.predict(self.x),
        )

    def forecast(self):
        stream = self.forecaster.stream()
        stream.run(self.history)
        return self.forecaster.forecast(self.history), *stream.step([3.3, 4.7, 5.1], interval=True)

    def predict_csv(self):
        from cylstm.cli import main

        out = self.folder / "out.csv"
        assert main(["predict", str(self.folder / "net.cylstm"), str(self.folder / "rows.csv"), "-o", str(out)]) == 0
        return out.read_bytes()

    def fail(self):
        found = []
        for call in (
            lambda: self.model.predict(self.x[..., :2]),
            lambda: self.model.predict("text"),
            lambda: self.model.predict(self.x, threads=0),
            lambda: self.stream.step(self.x[:, 0], active=[1]),
            lambda: self.stream.run(self.x, out=np.zeros(3)),
            lambda: cylstm.load(self.folder / "none.cylstm"),
            lambda: cylstm.load(self.folder / "rows.csv"),
            lambda: cylstm.from_state_dict(self.tensors, [cylstm.GRU("lstm")]),
            lambda: self.forecaster.forecast({"load": [1.0]}),
        ):
            with pytest.raises(CylstmError) as raised:
                call()
            found.append(str(raised.value))
        return found


NAMES = [name for name in vars(Calls) if not name.startswith("_")]


def plain(found):
    """Results as bytes, for comparisons."""
    if isinstance(found, np.ndarray):
        return found.tobytes()
    return [plain(one) for one in found] if isinstance(found, (list, tuple)) else found


@pytest.fixture
def calls(tmp_path):
    return Calls(tmp_path)


@pytest.mark.skipif(not IS_X86, reason="sets the modes of x86")
@pytest.mark.parametrize("name", NAMES)
def test_results_do_not_depend_on_the_callers_floating_point_mode_which_stays(calls, name, recwarn):
    wanted = plain(getattr(calls, name)())
    for mxcsr in MODES.values():
        before = mode()
        set_mode(mxcsr)
        try:
            found = getattr(calls, name)()
            after = mode()
        finally:
            set_mode(before)
        assert after == mxcsr
        assert plain(found) == wanted


def state():
    """What belongs to the process and its user."""
    handlers = []
    for number in signal.valid_signals():
        try:
            handlers.append(signal.getsignal(number))
        except ValueError:
            handlers.append(None)
    umask = os.umask(0)
    os.umask(umask)
    libc = ctypes.CDLL(None)
    libc.setlocale.restype = ctypes.c_char_p
    return {
        "mode": mode() if IS_X86 else None,
        "handlers": handlers,
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "affinity": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "locale": libc.setlocale(6, None),
        "umask": umask,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "printing": {key: item for key, item in np.get_printoptions().items()},
        "errors": np.geterr(),
        "recursion": sys.getrecursionlimit(),
        "hooks": (sys.excepthook, sys.unraisablehook, sys.settrace),
        "random": np.random.get_state()[1].tolist(),
        "limits": [(info["filepath"], info["num_threads"]) for info in threadpoolctl.threadpool_info()],
    }


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="POSIX")
@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_belongs_to_the_process_changes(calls, name, recwarn):
    getattr(calls, name)()  # which loads what is loaded once
    before = state()
    getattr(calls, name)()
    assert state() == before


@pytest.fixture(scope="module")
def locales(tmp_path_factory):
    """A folder with a locale whose decimals have a comma, made here if the system can make one."""
    folder = tmp_path_factory.mktemp("locales")
    command = ["localedef", "--quiet", "-i", "de_DE", "-f", "UTF-8", folder / "de_DE.UTF-8"]
    with contextlib.suppress(OSError):  # there is no such program
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_results_do_not_depend_on_a_locale_whose_decimals_have_a_comma(calls, name, locales, monkeypatch, recwarn):
    libc = ctypes.CDLL(None)
    libc.setlocale.restype = ctypes.c_char_p
    libc.atof.restype = ctypes.c_double
    wanted = plain(getattr(calls, name)())
    before = libc.setlocale(6, None)
    if any(locales.iterdir()):
        monkeypatch.setenv("LOCPATH", str(locales))
    for comma in (b"de_DE.UTF-8", b"de_DE.utf8", b"fr_FR.UTF-8", b"de_DE"):
        if libc.setlocale(6, comma):
            break
    else:
        pytest.skip("this system has no locale with a comma (Debian: locales, or locales-all)")
    try:
        assert libc.atof(b"1,5") == 1.5
        found = plain(getattr(calls, name)())
        assert libc.setlocale(6, None) == comma
    finally:
        libc.setlocale(6, before)
    assert found == wanted


def test_a_limit_of_threadpoolctl_holds_for_calls_and_is_listed(monkeypatch):
    for variable in ("CYLSTM_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)

    def listed():
        return [info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "cylstm"]

    lstm_model(np.random.default_rng(1), 3, 9)
    (before,) = listed()
    for limit in (1, 3):
        with threadpoolctl.threadpool_limits(limit):
            assert listed() == [limit] == [threads_of_engine.available_threads()]
    assert listed() == [before]
