"""A loaded network that predicts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import threads as _threads
from ._engine import PackedModel, Stream, chosen_isa
from .arrays import as_input, as_state, check_out, from_layout, to_layout
from .errors import CylstmError, FormatError, ShapeError, UnsupportedError
from .tensors import as_stored

if TYPE_CHECKING:
    from .graph import Graph

ENGINES = ("packed", "blas", "auto")
# that `summary` takes where any number will do but the memory depends on it
_SUMMARY_STEPS = 1000


class Model:
    """A trained network, packed for this CPU. It never changes; any number of threads may share it.

    Made by `load`, `from_state_dict`, `from_keras` or `from_torch`.

    Beside its weights it keeps the working memory of calls of `predict` that are over, for the next ones to use: at
    most 4 MB and at most 16 pieces, the latest ones; one call takes one piece for each of its threads. It goes with
    the model.

    Parameters
    ----------
    graph : Graph
    engine : {"packed", "blas", "auto"}, optional
        "packed" (the default) gives the same bits on every machine; "blas" computes through the process's BLAS;
        "auto" takes the one that should be faster here (see `cylstm.auto`), hence not the same bits everywhere.
    dtype : {"float32", "float64"}, optional
        Of arithmetic and results. "float64" implies ``engine="blas"``.
    arrays : dict of str to list of ndarray, optional
        The packed weights of a packed file, see `cylstm._engine.PackedModel`; the graph then has their shapes only.

    Attributes
    ----------
    graph : Graph
        As loaded, with its tensors unpacked when asked for: the model holds its weights once. They are of `dtype`, and
        in float32 those below 2**-40 are 0.
    engine : {"packed", "blas"}
        With ``engine="auto"`` the one that was chosen.
    dtype : numpy.dtype
    inputs, outputs : list of str
    metadata : dict of str to str
        Free text from the file: scaling, units, names.
    provenance : dict
        What the loader did.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        engine: str | None = None,
        dtype: str | None = None,
        arrays: Mapping[str, list[np.ndarray]] | None = None,
    ) -> None:
        dtype_given = dtype is not None
        try:
            self.dtype = np.dtype("float32" if dtype is None else dtype)
        except TypeError as error:
            raise ShapeError(f"dtype: expected float32 or float64, found {dtype!r}") from error
        if self.dtype not in (np.float32, np.float64):
            raise UnsupportedError(f"dtype: expected float32 or float64, found {self.dtype}")
        if engine is None:
            engine = "blas" if self.dtype == np.float64 else "packed"
        if engine not in ENGINES:
            raise UnsupportedError(f"engine: expected one of {', '.join(ENGINES)}, found {engine!r}")
        if engine == "packed" and self.dtype == np.float64:
            raise UnsupportedError('engine="packed" computes in float32; for dtype="float64" use engine="blas"')
        wide = [name for name, tensor in as_stored(graph.tensors).items() if tensor.dtype == np.float64]
        if wide and not dtype_given:
            warnings.warn(
                f"{len(wide)} float64 weights ({wide[0]}, ...) are converted to float32; "
                'dtype="float64" keeps them, dtype="float32" says that this is meant',
                stacklevel=3,
            )
        isa = chosen_isa()
        self._reason = None  # why "auto" chose this engine
        if engine == "auto":
            from .auto import choose_engine

            engine, self._reason = choose_engine(isa, self.dtype == np.float64)
        self.graph = graph
        self.engine = engine
        self.metadata = dict(graph.metadata)
        self.provenance = dict(graph.provenance)
        self.inputs = list(graph.inputs)
        self.outputs = list(graph.outputs)
        self._input_values = [graph.values[name] for name in graph.inputs]
        if arrays is not None and engine != "packed":
            self.graph = graph = Model(graph, arrays=arrays).graph
            arrays = None
        blas = None
        if engine == "blas":
            from .blas import find_blas

            blas = find_blas()
        _threads.register(only_if_imported=True)
        self._packed = PackedModel(_computed(graph), engine, isa, blas, self.dtype, arrays)
        self.graph = graph._replace(tensors=self._packed.tensors(graph))

    def predict(
        self,
        x: Any,
        *,
        initial_state: Sequence[tuple] | None = None,
        return_state: bool = False,
        lengths: Any = None,
        mask: Any = None,
        threads: int | None = None,
        out: Any = None,
    ) -> Any:
        """Predict for whole sequences.

        Parameters
        ----------
        x : array_like
            (batch, time, features), or (time, features) for one sample: the result then has no batch axis either.
            Networks without recurrence take (batch, features) or (features,). Several inputs: a list in the order
            of `inputs`, or a dict by name.
        initial_state : list of tuple of array_like, optional
            One tuple per stateful layer, (h, c) for an LSTM, arrays (batch, size), in the order of `state_names`.
            Zeros if not given.
        return_state : bool
            Also return the states after the last step, in the same form.
        lengths : array_like of int, optional
            (batch,): row n counts for its first ``lengths[n]`` steps only. Steps beyond leave the states as they
            are; outputs there are zeros, or repeat the last output, as the framework of the model has it.
        mask : array_like of bool, optional
            (batch, time), true where a step counts; instead of `lengths`.
        threads : int, optional
            At most so many threads; None: up to the number of CPUs (see `threads.py` for the limits). A call too
            small to gain from them uses fewer. The result does not depend on it.
        out : ndarray or list of ndarray, optional
            Where to write the outputs: C-contiguous, of `dtype`, of the result's shape.

        Returns
        -------
        ndarray or list of ndarray
            One array per output: (batch, time, features) or (batch, features).
        state : list of tuple of ndarray
            If `return_state`.

        Raises
        ------
        ShapeError
            If an array has another rank, feature count, batch or dtype than the model needs.
        """
        packed = self._packed
        plain = initial_state is None and lengths is None and mask is None and not return_state
        if plain and not self.graph.layouts:
            y = packed.predict_array(x, out, threads)
            if y is not None:
                return y
        inputs, alone = [], None
        for value, array in zip(self._input_values, self._input_list(x)):
            layout = self.graph.layouts.get(value.name)
            if layout is not None:
                array = from_layout(array, layout, value)
            array, is_alone = as_input(array, value, self.dtype)
            if alone is not None and is_alone != alone:
                raise ShapeError("inputs: expected all with a batch axis or all without")
            if inputs and len(array) != len(inputs[0]):
                raise ShapeError(f"inputs: expected one batch, found {len(inputs[0])} and {len(array)}")
            alone = is_alone
            inputs.append(array)
        batch = len(inputs[0])
        masks = self._masks(inputs, alone, lengths, mask)
        results, given = self._results(inputs, alone, out)
        state = None if initial_state is None else as_state(initial_state, packed.state_groups, batch, self.dtype)
        final = None
        if return_state:
            final = [[np.empty((batch, *shape), self.dtype) for shape in shapes] for _, shapes in packed.state_groups]
        time = max(self._times(inputs))
        if threads is not None:
            threads = _threads.check_threads(threads)
        elif packed.work * batch * time < _threads.SMALL_WORK:
            threads = 1
        else:
            threads = _threads.available_threads()
        threads = packed.useful_threads(batch, time, threads)
        flat = None if final is None else [array for arrays in final for array in arrays]
        packed.predict(inputs, masks, results, state, flat, threads)
        results = self.to_users(results, given)
        y = results if len(results) > 1 else results[0]
        return (y, [tuple(arrays) for arrays in final]) if final is not None else y

    def stream(self, batch: int = 1, *, threads: int = 1) -> Stream:
        """A running state that starts at zero.

        Parameters
        ----------
        batch : int
            Rows that advance together, or some of them at a time: as many users of a server, say.
        threads : int
            At most so many threads a step; a step too small to gain from them uses fewer (`Stream.threads`).

        Raises
        ------
        UnsupportedError
            If the network cannot run step by step; the message names the layer.
        """
        reason = self._why_no_stream()
        if reason is not None:
            raise UnsupportedError(reason)
        if isinstance(batch, bool) or not hasattr(batch, "__index__") or batch.__index__() < 1:
            raise ShapeError(f"batch: expected a whole number of at least 1, found {batch!r}")
        batch = batch.__index__()
        threads = self._packed.useful_threads(batch, 1, _threads.check_threads(threads))
        return Stream(self, batch, threads)

    @property
    def can_stream(self) -> bool:
        """Whether the network can run step by step."""
        return self._why_no_stream() is None

    @property
    def state_names(self) -> list[tuple[str, ...]]:
        """The label of every state array, in the form of a state: ``[("lstm.h", "lstm.c"), ...]``."""
        return [tuple(f"{name}.{label}" for label, _ in parts) for name, parts in self.graph.states()]

    def save(self, path: str | os.PathLike, *, metadata: Mapping[str, str] | None = None, packed: bool = False) -> None:
        """Write a native ``.cylstm`` file, which `load` reads back to the same predictions, bit for bit.

        Parameters
        ----------
        path : path-like
            Must end in ``.cylstm``. An existing file is replaced once the new one is complete.
        metadata : dict of str to str, optional
            Free text kept with the model; `metadata` of the loaded model. Default: this model's own.
        packed : bool
            Write the weights as the engine packs them, the same on every machine: `load` then packs nothing, and
            ``load(..., mmap=True)`` does not even copy them.

        Raises
        ------
        UnsupportedError
            If `path` ends otherwise, or for a packed file of a model with ``engine="blas"``.
        """
        if packed and self.engine != "packed":
            raise UnsupportedError(
                f'save(packed=True) writes the weights of engine="packed", this model has engine={self.engine!r}; '
                "save it unpacked and load that"
            )
        from .formats import write

        graph = self.graph
        if metadata is not None:
            graph = graph._replace(metadata=dict(metadata))
        write(graph, path, self._packed.arrays() if packed else None)

    def summary(self) -> None:
        """Print the layers, their output shapes and parameters, and the memory of the weights and of a run.

        The memory of a run is what the values between layers, the states and scratch take beside the weights: in a
        stream of one row, or where the network cannot stream in `predict` of one row and 1,000 steps (the steps that
        the network fixes, if it does). A stream has room for pieces of a sequence: of many steps in a small network.
        """
        print(self._summary_text())

    def __repr__(self) -> str:
        chosen = "" if self._reason is None else " by auto"
        ops = [node.op for node in self.graph.nodes]
        if len(ops) > 16:
            ops[8:-4] = [f"{len(ops) - 12} more"]
        return (
            f"<cylstm.Model {' -> '.join(ops)}, "
            f"{self.graph.parameters():,} parameters, engine={self.engine!r}{chosen}, {self.dtype}>"
        )

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: dict) -> Model:
        return self

    def __reduce__(self):
        # "auto" chooses anew where the model is loaded
        engine = self.engine if self._reason is None else "auto"
        return _rebuild, (self.graph, engine, str(self.dtype))

    def _input_list(self, x: Any) -> list:
        """The inputs in the order of `inputs`."""
        if isinstance(x, Mapping):
            if set(x) != set(self.inputs):
                raise ShapeError(f"inputs: expected {', '.join(self.inputs)}, found {', '.join(map(str, x))}")
            return [x[name] for name in self.inputs]
        if len(self.inputs) == 1:
            return [x]
        if not isinstance(x, (list, tuple)) or len(x) != len(self.inputs):
            raise ShapeError(f"inputs: expected a list of {len(self.inputs)} ({', '.join(self.inputs)}) or a dict")
        return list(x)

    def _results(self, inputs: list[np.ndarray], alone: bool, out: Any) -> tuple[list[np.ndarray], Any]:
        """The arrays to write to, and those of `out` that the results are copied to as they lie for the user."""
        shapes = self._result_shapes(inputs)
        shapes = [shape[1:] for shape in shapes] if alone else shapes
        if out is None:
            return [np.empty(shape, self.dtype) for shape in shapes], None
        given = out if isinstance(out, (list, tuple)) else [out]
        if len(given) != len(shapes):
            raise ShapeError(f"out: expected {len(shapes)} arrays, found {len(given)}")
        if not self.graph.layouts:
            return [check_out(array, shape, self.dtype, inputs) for array, shape in zip(given, shapes)], None
        results = [np.empty(shape, self.dtype) for shape in shapes]
        for array, view in zip(given, self.to_users(results)):
            check_out(array, view.shape, self.dtype, inputs)
        return results, given

    def to_users(self, results: list[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """Results with their axes as they lie for the user (`Graph.layouts`), copied to `out` if that is given."""
        layouts, found = self.graph.layouts, []
        for i, (name, array) in enumerate(zip(self.outputs, results)):
            if name in layouts:
                array = to_layout(array, layouts[name], len(self.graph.values[name].shape))
            if out is not None:
                np.copyto(out[i], array)
                array = out[i]
            found.append(array)
        return found

    def _result_shapes(self, inputs: list[np.ndarray]) -> list[tuple[int, ...]]:
        return self._packed.result_shapes(len(inputs[0]), self._times(inputs))

    def _times(self, inputs: list[np.ndarray]) -> list[int]:
        """Steps of each input, 1 for one without time."""
        return [x.shape[1] if value.has_time else 1 for value, x in zip(self._input_values, inputs)]

    def _masks(self, inputs: list[np.ndarray], alone: bool, lengths: Any, mask: Any) -> list[np.ndarray | None]:
        """One mask (batch, time) of uint8, or None, per input."""
        masks: list[np.ndarray | None] = [None] * len(inputs)
        if lengths is None and mask is None:
            return masks
        if lengths is not None and mask is not None:
            raise ShapeError("give lengths or mask, not both")
        what = "lengths" if mask is None else "mask"
        given = lengths if mask is None else mask
        sequences = [i for i, value in enumerate(self._input_values) if value.mask is not None]
        if isinstance(given, Mapping):
            unknown = set(given) - {self.inputs[i] for i in sequences}
            if unknown:
                raise ShapeError(f"{what}: no sequence input is named {', '.join(map(str, unknown))}")
            sequences = [i for i in sequences if self.inputs[i] in given]
        elif not sequences:
            raise ShapeError(f"{what}: no layer reads a mask of an input")
        elif len(sequences) != 1:
            raise ShapeError(f"{what}: the network has {len(sequences)} sequence inputs; give a dict by input name")
        for i in sequences:
            one = given[self.inputs[i]] if isinstance(given, Mapping) else given
            batch, time = inputs[i].shape[:2]
            masks[i] = _prefix_mask(one, batch, time) if mask is None else _as_mask(one, batch, time, alone)
        return masks

    def _why_no_stream(self) -> str | None:
        from .streaming import why_no_stream

        return why_no_stream(self.graph)

    def _summary_text(self) -> str:
        values = self.graph.values
        rows = [("layer", "operation", "reads", "output", "parameters")]
        for name in self.inputs:
            rows.append((name, "input", "", _shape_text(values[name]), ""))
        counted: set[str] = set()
        stored = as_stored(self.graph.tensors)
        for node in self.graph.nodes:
            tensors = [stored[name] for name in node.weights.values() if name not in counted]
            counted.update(node.weights.values())
            data = [name for name in node.inputs.values() if values[name].kind != "mask"]
            if len(data) > 4:
                data[2:-1] = [f"{len(data) - 3} more"]
            y = values[node.outputs.get("y", next(iter(node.outputs.values())))]
            rows.append((node.name, node.op, ", ".join(data), _shape_text(y), f"{sum(t.size for t in tensors):,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        streams = self._why_no_stream() or "yes"
        chosen = "" if self._reason is None else f" (auto: {self._reason})"
        lines += [
            "",
            f"{self.graph.parameters():,} parameters, {self._packed.nbytes / 1024:,.1f} KB packed, "
            f"{self._packed.work:,} multiply-adds a step",
            f"memory of a run of one row beside these: {self._run_memory_text()}",
            f"engine {self.engine}{chosen}, {self.dtype}; outputs: {', '.join(self.outputs)}; streams: {streams}",
        ]
        return "\n".join(lines)

    def _run_memory_text(self) -> str:
        """What values, states and scratch take: of a stream, else of a prediction of so many steps."""
        if self.can_stream:
            return f"{self._packed.run_bytes(None) / 1024:,.1f} KB (a stream)"
        times = [
            1 if not value.has_time else value.shape[0] if value.shape[0] is not None else _SUMMARY_STEPS
            for value in self._input_values
        ]
        steps = f" of {max(times):,} steps" if any(value.has_time for value in self._input_values) else ""
        try:
            return f"{self._packed.run_bytes(times) / 1024:,.1f} KB (predict{steps})"
        except CylstmError as error:
            return f"not known{steps}: {error}"


def _computed(graph: Graph) -> Graph:
    """What is left of the graph at inference."""
    if all(node.op != "dropout" for node in graph.nodes):
        return graph
    from .passes import drop_dropout

    return drop_dropout(graph)


def _shape_text(value) -> str:
    return "(" + ", ".join(["batch", *("time" if size is None else str(size) for size in value.shape)]) + ")"


def _prefix_mask(lengths: Any, batch: int, time: int) -> np.ndarray:
    lengths = np.asarray(lengths)
    if lengths.ndim == 0 and batch == 1:
        lengths = lengths[np.newaxis]
    if lengths.dtype.kind not in "iu" or lengths.shape != (batch,):
        raise ShapeError(f"lengths: expected {batch} whole numbers, found {lengths.dtype} of shape {lengths.shape}")
    wrong = np.flatnonzero((lengths < 1) | (lengths > time))
    if wrong.size:
        raise ShapeError(f"lengths: expected 1 to {time}, found {lengths[wrong[0]]} in row {wrong[0]}")
    return (np.arange(time) < lengths[:, np.newaxis]).view(np.uint8)


def _as_mask(mask: Any, batch: int, time: int, alone: bool) -> np.ndarray:
    mask = np.asarray(mask)
    if alone and mask.ndim == 1:
        mask = mask[np.newaxis]
    if mask.dtype != np.bool_ or mask.shape != (batch, time):
        raise ShapeError(f"mask: expected bool of shape {(batch, time)}, found {mask.dtype} of shape {mask.shape}")
    return np.ascontiguousarray(mask).view(np.uint8)


def _rebuild(graph: Graph, engine: str, dtype: str) -> Model:
    return Model(graph, engine=engine, dtype=dtype)


def load(
    path: str | os.PathLike,
    *,
    layers: Sequence[object] | None = None,
    key: str | None = None,
    architecture: object = None,
    keras_version: str | None = None,
    engine: str | None = None,
    dtype: str | None = None,
    mmap: bool = False,
) -> Model:
    """Load a trained network from a file.

    The model holds its weights once, packed, and nothing of the file. ``.cylstm``, PyTorch's files and ``.safetensors``
    are read piece by piece, so at no time does loading need more memory than that and some megabytes; the others are
    read whole before they are packed.

    Parameters
    ----------
    path : path-like
        ``.keras``, ``.h5``, ``.pt``, ``.pth``, ``.safetensors`` (or the index of several), ``.npz`` or ``.cylstm``.
    layers : list of layers, optional
        The wiring of a state dict, which holds none: ``[cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")]``.
        Without it, loading a state dict fails with the tensors found and a proposal to paste.
    key : str, optional
        Which state dict, where a PyTorch checkpoint holds several: ``"model"``, ``"nets/generator"``.
    architecture : str, path-like or mapping, optional
        The model that a file of Keras weights alone belongs to (``.weights.h5``, ``.weights.json``, an older ``.h5``):
        the text of ``model.to_json()``, a file that holds it, a ``.keras`` or ``.h5`` file of the whole model, or the
        config as a dict. Instead, `layers` may say the wiring.
    keras_version : str, optional
        Read a Keras model as this version wrote it, for example ``"2.2.4"``, whatever the file says.
    engine, dtype : str, optional
        See `Model`.
    mmap : bool
        Use the weights of a packed file (see `Model.save`) where they lie in it: loading reads none of them, and
        processes share them. Whether they are finite is not looked at. While the model lives the file must not be
        overwritten or truncated, which would change its predictions or end the process; replacing or removing it is
        harmless, and so is `Model.save` to the same name.

    Raises
    ------
    FormatError
        If the file is damaged, incomplete or of another kind.
    UnsupportedError
        If a layer, an option or the kind of file is not supported; the message names it.
    ShapeError
        If tensors do not fit together.
    """
    from .formats import open_file

    if mmap and (engine not in (None, "packed") or dtype not in (None, "float32", np.float32)):
        raise UnsupportedError(f'{path}: mmap=True maps the weights of engine="packed" in float32; leave it out')
    graph, arrays = open_file(
        path, layers=layers, key=key, architecture=architecture, keras_version=keras_version, mmap=mmap
    )
    try:
        return Model(graph, engine=engine, dtype=dtype, arrays=arrays)
    except FormatError as error:  # what shows only when tensors are packed
        if str(path) in str(error):
            raise
        raise FormatError(f"{path}: {error}") from error


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    layers: Sequence[object] | None = None,
    key: str | None = None,
    architecture: object = None,
    keras_version: str | None = None,
    dtype: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Read a network from a file of any kind and write it as a native ``.cylstm``, which needs no further arguments.

    Parameters
    ----------
    source, target : path-like
    layers, key, architecture, keras_version
        As for `load`.
    dtype : {"float32", "float64"}, optional
        Of the weights written. None keeps each as it is.
    metadata : dict of str to str, optional
        Free text to put into the file: scaling, units, names. It is added to what the source has.

    Raises
    ------
    FormatError, UnsupportedError, ShapeError
        As `load` does.
    OSError
        If `target` cannot be written; a file that was there before is then untouched.
    """
    from .formats import read, write

    graph = read(source, layers=layers, key=key, architecture=architecture, keras_version=keras_version)
    if dtype not in (None, "float32", "float64"):
        raise UnsupportedError(f"dtype: expected float32 or float64, found {dtype!r}")
    if dtype is not None:
        graph = graph._replace(tensors={name: array.astype(dtype) for name, array in graph.tensors.items()})
    write(graph._replace(metadata={**graph.metadata, **(metadata or {})}), target)


def from_state_dict(
    mapping: Mapping[str, Any],
    layers: Sequence[object] | None = None,
    *,
    engine: str | None = None,
    dtype: str | None = None,
) -> Model:
    """A model from tensors in memory, named as PyTorch names them (NumPy arrays or tensors). See `load`."""
    from .formats.state_dict import from_state_dict as build

    return Model(build(mapping, layers), engine=engine, dtype=dtype)


def from_keras(keras_model: Any, *, engine: str | None = None, dtype: str | None = None) -> Model:
    """A model from a live Keras model. See `load` for the errors raised."""
    from .formats.keras import from_keras as build

    return Model(build(keras_model), engine=engine, dtype=dtype)


def from_torch(module: Any, *, inputs: Any = None, engine: str | None = None, dtype: str | None = None) -> Model:
    """A model from a live PyTorch layer, or from a whole network that torch.fx can trace.

    `predict` takes and gives the same arrays as the module: (batch, channels, time) where that is what it reads. Only
    the batch comes first always, also for a module whose time comes first.

    Parameters
    ----------
    module : torch.nn.Module
        Weights are copied. It is taken as after ``module.eval()``.
    inputs : tuple, list of tuple or dict, optional
        The shapes of the arguments of its forward where the first layer to read each does not tell them: "N" for the
        batch, "T" for a time of any length and numbers, as ``[("N", "T", 6)]`` or ``{"x": ("N", 3, 20)}``.
    engine, dtype : str, optional
        See `Model`.

    Raises
    ------
    UnsupportedError
        If it cannot be traced, or has a layer or an operation that is not computed; the message names it.
    ShapeError
        If the layers do not fit together, or one needs a number of steps that `inputs` has to say.
    """
    from .formats.torch import from_torch as build

    return Model(build(module, inputs), engine=engine, dtype=dtype)
