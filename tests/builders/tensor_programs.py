"""Programs of single operations on symbolic tensors, beside the same arrays in NumPy."""

import numpy as np

import cylstm
from cylstm.program.network import Network
from cylstm.program.operations import shape
from cylstm.program.tensor import BATCH, BATCH_SIZE, Dim, Tensor, is_constant

#: rows, steps and features: all different, so that no axis is taken for another
ROWS, STEPS, FEATURES = 3, 5, 4


class TensorProgram:
    """Makes inputs as tensors of a program and as arrays, and compares what the program computes with NumPy."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.net = Network()
        self.net.name = "operation"
        self.given = []

    def tensor(self, *sizes, order=None, is_open=False, dtype="float", numbers=None, time_of=None):
        """An input of rows, (ROWS, *sizes), as a tensor and an array, its axes in another `order` if that is given.

        The first of the sizes is the time, of any length if `is_open`.
        """
        name = f"x{len(self.given)}"
        array = self.rng.normal(size=(ROWS, *sizes)) if numbers is None else np.asarray(numbers)
        array = array.astype(np.float32)
        stored = array if sizes else array[:, np.newaxis]
        inner = list(stored.shape[1:])
        is_padded = is_open and len(inner) == 1
        if is_padded:
            stored, inner = stored[:, :, np.newaxis], [*inner, 1]
        if is_open:
            inner[0] = None
        value = self.net.builder.input(name, tuple(inner), time_of=time_of)
        self.given.append(stored)
        tensor = Tensor(value, (BATCH, *range(len(sizes))), dtype)
        array = array.astype(bool) if dtype == "bool" else array.astype(np.float64)
        order = order or range(len(sizes) + 1)
        return shape.permute(self.net, tensor, order), array.transpose(order)

    def constant(self, *sizes):
        """A constant, as the program has it and in double precision."""
        array = self.rng.normal(size=sizes).astype(np.float32)
        return array, array.astype(np.float64)

    def check(self, found, expected, tolerance=2e-6):
        """Compare results with NumPy's, of one or of several: their shapes, and their numbers with both engines."""
        several = isinstance(found, (tuple, list))
        tensors, arrays = (list(found), list(expected)) if several else ([found], [expected])
        assert len(tensors) == len(arrays)
        orders = []
        for number, (tensor, array) in enumerate(zip(tensors, arrays)):
            array = np.asarray(array, np.float64)
            if is_constant(tensor):
                np.testing.assert_allclose(np.asarray(tensor, np.float64), array, rtol=1e-6, atol=1e-6)
                continue
            self.net.name = f"out{number}"
            tensor = self.net.tensor(tensor)
            assert tensor.ndim == array.ndim, (tensor.shape, array.shape)
            for own, size in zip(tensor.shape, array.shape):
                assert isinstance(own, Dim) or own == size, (tensor.shape, array.shape)
            for axis in range(tensor.ndim):
                if isinstance(tensor.axes[axis], tuple) and BATCH not in tensor.axes[axis]:
                    tensor = self.net.solid(tensor, axis)
            tensor = self.net.plain(tensor)
            order = self.net.order([tensor], tensor.inner)
            value = self.net.add_layer("activation", self.net.arrange(tensor, order))
            self.net.builder.output(value)
            orders.append(([tensor.batch, *order], array, tensor))
        if not orders:
            return
        graph = self.net.builder.build()
        for engine in ("packed", "blas"):
            model = cylstm.Model(graph, engine=engine)
            results = model.predict(self.given if len(self.given) > 1 else self.given[0])
            for own, (order, array, tensor) in zip(results if len(orders) > 1 else [results], orders, strict=True):
                order = [axis for axis in order if axis >= 0]
                sizes = [ROWS if size == BATCH_SIZE else size for size in tensor.shape]
                whole = array.reshape([-1 if isinstance(size, Dim) else size for size in sizes])
                wanted = whole.transpose(order)
                if tensor.batch < 0:
                    wanted = np.broadcast_to(wanted, (ROWS, *wanted.shape))
                scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)
                own = np.asarray(own, np.float64).reshape(wanted.shape)
                np.testing.assert_allclose(own, wanted, rtol=0, atol=tolerance * scale)


#: how (rows, steps, features) may lie in a program
FORMS = {
    "steps are known": {},
    "any number of steps": {"is_open": True},
    "time first": {"order": (1, 0, 2), "is_open": True},
    "channels first": {"order": (0, 2, 1), "is_open": True},
    "rows last": {"order": (2, 1, 0)},
    "steps as rows": {"joined": True},
}


def in_form(program, form, **others):
    """An input of rows, steps and features, as its tensor and its array lie in a form."""
    options = {**FORMS[form], **others}
    joined = options.pop("joined", False)
    tensor, array = program.tensor(STEPS, FEATURES, **options)
    if joined:
        tensor = shape.flatten(program.net, tensor, 0, 1)
        array = array.reshape(-1, FEATURES)
    return tensor, array


def axis_of(form, what):
    """Which axis is the steps or the features in a form."""
    if FORMS[form].get("joined"):
        return {"steps": 0, "features": 1}[what]
    return list(FORMS[form].get("order", (0, 1, 2))).index({"steps": 1, "features": 2}[what])
