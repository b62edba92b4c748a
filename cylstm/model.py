"""A loaded network that predicts."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import cylstm.forks  # noqa: F401  (it watches forks)
from cylstm.engine.choose import check_engine, choose_engine, chosen_isa, real_dtype
from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, CylstmWarning, UnsupportedError
from cylstm.graph.weights import as_stored
from cylstm.packing import PackedModel
from cylstm.pickles import Layout

if TYPE_CHECKING:
    from types import EllipsisType

    from cylstm.explain.prune import Pruning
    from cylstm.explain.units import UnitReport
    from cylstm.graph.graph import Graph
    from cylstm.monte_carlo import MonteCarlo
    from cylstm.quantization import Comparison, QuantizedPart
    from cylstm.stream import Stream
    from cylstm.trace import Trace


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
        "auto" takes the one that should be faster here (`cylstm.engine.choose`), hence not the same bits everywhere.
    dtype : {"float32", "float64"}, optional
        Of arithmetic and results. "float64" implies ``engine="blas"``.
    weights : {"float32", "float16", "bfloat16", "int8", "int8a16", "int8a8"}, optional
        How ``engine="packed"`` stores matrices; None: as the graph says, which is float32 unless it comes from a model
        with others. In "float16" and "bfloat16" they take half the memory, and each weight is rounded once, here, to 11
        or 8 significant bits. "int8" chooses types by the rules of `quantize`; "int8a16" and "int8a8" are int8 with
        activations of 16 and 8 bits in every layer that can have it. Biases, states and all other arithmetic stay
        float32, and the bits are the same on every machine.

    Its attributes are read-only, and so is what they hold: for another network make another model.
    """

    __slots__ = (
        "__weakref__",
        "_dtype",
        "_engine",
        "_graph",
        "_packed",
        "_plans",
        "_quantization",
        "_reason",
        "_stream_refusal",
        "_told",
    )

    _graph: Graph
    _stream_refusal: str | None  # once it has been asked for

    def __init__(
        self, graph: Graph, *, engine: str | None = None, dtype: str | None = None, weights: str | None = None
    ) -> None:
        self._set_up(graph, engine, dtype, weights, None)

    @classmethod
    def _of_arrays(
        cls,
        graph: Graph,
        arrays: Mapping[str, list[np.ndarray]] | None,
        engine: str | None = None,
        dtype: str | None = None,
        weights: str | None = None,
    ) -> Model:
        """Of a packed file: `arrays` as `PackedModel` takes them, the graph then has their shapes only."""
        model = cls.__new__(cls)
        model._set_up(graph, engine, dtype, weights, arrays)
        return model

    def _set_up(
        self,
        graph: Graph,
        engine: str | None,
        dtype: object,
        weights: str | None,
        arrays: Mapping[str, list[np.ndarray]] | None,
    ) -> None:
        from cylstm.graph.graph import Graph, read_only

        if hasattr(self, "_packed"):
            raise AttributeError("a Model never changes; make another one")
        if not isinstance(graph, Graph):
            raise ArgumentError(
                f"graph: expected a Graph of cylstm.graph, found {type(graph).__name__}; see cylstm.load"
            )
        real = real_dtype("float32" if dtype is None else dtype)
        if engine is None:
            engine = "blas" if real == np.float64 else "packed"
        if check_engine(engine) == "packed" and real == np.float64:
            raise UnsupportedError('engine="packed" computes in float32; for dtype="float64" use engine="blas"')
        types_before = graph.weight_types
        if weights is not None:
            from cylstm.quantization import with_weights

            graph = with_weights(graph, weights)
        smaller = sorted({*graph.weight_types.values(), weights or "float32"} - {"float32"})
        wide = [name for name, tensor in as_stored(graph.tensors).items() if tensor.dtype == np.float64]
        if wide and dtype is None:
            warnings.warn(
                f"{len(wide)} float64 weights ({wide[0]}, ...) are converted to float32; "
                'dtype="float64" keeps them, dtype="float32" says that this is meant',
                stacklevel=5,
            )
        isa = chosen_isa()
        if "CYLSTM_NUM_THREADS" in os.environ:
            from cylstm.engine.threads import check_environment

            check_environment()
        self._told: set[str] = set()  # what is said once
        self._plans: dict[Any, Any] = {}  # of traces and of predict_mc
        self._quantization: tuple[QuantizedPart, ...] = ()
        self._reason: str | None = None  # why "auto" chose this engine
        if engine == "auto":
            engine, self._reason = choose_engine(isa, real == np.float64, smaller)
        if smaller and engine == "blas":
            how = 'dtype="float64"' if real == np.float64 else 'engine="blas"'
            raise UnsupportedError(
                f'weights of {smaller[0]} are for engine="packed", and {how} was asked for; weights="float32" has '
                "them as float32"
            )
        self._dtype = real
        self._engine = engine
        if arrays is not None and (engine != "packed" or graph.weight_types != types_before):
            unpacked = Model._of_arrays(graph._replace(weight_types=types_before), arrays, "packed").graph
            graph, arrays = unpacked._replace(weight_types=graph.weight_types), None
        blas = None
        if engine == "blas":
            from cylstm.engine.blas import find_blas

            blas = find_blas()
        if "threadpoolctl" in sys.modules:
            from cylstm.engine.threads import register

            register()
        computed = graph
        if graph.has_inert_layers:
            from cylstm.graph.passes import drop_inert_layers

            computed = drop_inert_layers(graph)
        packed = PackedModel(computed, engine, isa, blas, real, arrays)
        self._graph = graph._replace(tensors=packed.tensors(graph), provenance=read_only(graph.provenance))
        self._packed = packed

    @property
    def graph(self) -> Graph:
        """As loaded, with its tensors unpacked when asked for: the model holds its weights once. They are of `dtype`,
        and in float32 those below 2**-40 are 0.
        """
        return self._graph

    @property
    def engine(self) -> str:
        """ "packed" or "blas"; with ``engine="auto"`` the one that was chosen."""
        return self._engine

    @property
    def dtype(self) -> np.dtype:
        """Of arithmetic and results: float32 or float64."""
        return self._dtype

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in the order in which `predict` takes them."""
        return self._graph.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the order in which `predict` gives them."""
        return self._graph.outputs

    @property
    def input_shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        """The shape of each input, in the order of `inputs`: as `predict` takes it, None for the batch and for a time
        of any length. A read-only dict.
        """
        return self._shapes_of(self._graph.inputs)

    @property
    def output_shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        """The shape of each output, as `input_shapes`; a time that follows from an input's is None too."""
        return self._shapes_of(self._graph.outputs)

    def _shapes_of(self, names: Sequence[str]) -> Mapping[str, tuple[int | None, ...]]:
        from cylstm.graph.graph import read_only

        shapes: dict[str, tuple[int | None, ...]] = {}
        for name in names:
            shape, layout = self._graph.values[name].shape, self._graph.layouts.get(name)
            shapes[name] = (None, *(shape if layout is None else [shape[int(axis)] for axis in layout]))
        found: Mapping[str, tuple[int | None, ...]] = read_only(shapes)
        return found

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What was saved with the model: scaling, units, names, as texts, numbers, truths, None, tuples (of lists) and
        dicts. A read-only dict.
        """
        return self._graph.metadata

    @property
    def provenance(self) -> Mapping[str, object]:
        """What the loader did: where each tensor was and went. A read-only dict."""
        return self._graph.provenance

    def predict(
        self,
        x: Any,
        *,
        initial_state: Sequence[Sequence[Any]] | None = None,
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
            Maximum number of threads; None: the number of CPUs (see `threads.py` for the limits). A call too
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
        if initial_state is None and lengths is None and mask is None and return_state is False:
            y = self._packed.predict_array(x, out, threads)
            if y is not None:
                return y
        # imported here, as the streams are: a process that only predicts one array starts 0.6 ms earlier without them
        from cylstm.prediction import predict_any

        return predict_any(self._packed, x, initial_state, return_state, lengths, mask, threads, out)

    @in_standard_mode
    def trace(
        self,
        x: Any,
        layers: Sequence[str] | str | None = None,
        what: Sequence[str] | str | None = None,
        *,
        out: Trace | None = None,
        path: str | os.PathLike[str] | None = None,
        progress: bool = False,
        initial_state: Sequence[Sequence[Any]] | None = None,
        return_state: bool = False,
        lengths: Any = None,
        mask: Any = None,
        threads: int | None = None,
    ) -> Trace:
        """Predict, and keep what the layers compute on the way: gates, cells and results.

        The prediction has the same bits as that of `predict`.

        Parameters
        ----------
        x, initial_state, return_state, lengths, mask, threads
            As `predict` takes them.
        layers : list of str, optional
            Names of layers, as `summary` shows them; by default all.
        what : list of str, optional
            The parts that are kept, such as ``["f", "c"]``: see `cylstm.trace.LayerTrace`; by default all that a layer
            has.
        out : Trace, optional
            What an earlier call for the same layers and parts gave: its arrays are written again, of the same shapes.
        path : str or path, optional
            A folder to write the trace to as it is computed, in chunks of rows, or of steps where one row is long and
            the network can run in pieces without masks: memory stays constant. The arrays of the result are mapped
            from its files; `Trace.load` reads it again. While it is written it has another name, and where that ends
            by an error or Ctrl-C nothing is left. An earlier trace of this name is replaced.
        progress : bool
            With `path`, show a progress bar, which needs tqdm.

        Returns
        -------
        Trace
            ``trace["lstm"].f`` is the forget gate (batch, time, units), ``trace.outputs`` what `predict` gives (with
            `path` and ``engine="blas"`` within rounding).

        Raises
        ------
        ArgumentError
            If there is no such layer, it has no such part, `out` is a trace of something else, or `path` is there
            already and is no trace.
        ShapeError
            As `predict`.
        UnsupportedError
            If `path` is to be an ``.npz`` file, or tqdm is not installed.
        OSError
            If the trace does not fit on the disk.
        """
        if path is not None:
            from cylstm.trace_chunks import trace_to_folder

            if out is not None:
                raise ArgumentError("out: with path= the arrays lie in its files; give one of the two")
            return trace_to_folder(
                self, x, layers, what, path, initial_state, return_state, lengths, mask, threads, progress
            )
        if progress is not False:
            raise ArgumentError("progress: a bar is shown of a trace that goes to a folder: give path= too")
        from cylstm.trace import trace_model

        return trace_model(self, x, layers, what, out, initial_state, return_state, lengths, mask, threads)

    @in_standard_mode
    def predict_mc(
        self,
        x: Any,
        samples: int = 100,
        *,
        seed: int = 0,
        rates: Mapping[str, Any] | None = None,
        initial_state: Sequence[Sequence[Any]] | None = None,
        lengths: Any = None,
        mask: Any = None,
        keep_samples: bool = True,
        threads: int | None = None,
    ) -> MonteCarlo:
        """Predict many times with the dropout of training left on, as Keras and PyTorch have it (MC dropout).

        Gal and Ghahramani, "Dropout as a Bayesian approximation", arXiv 1506.02142, and for recurrent networks "A
        theoretically grounded application of dropout in recurrent neural networks", arXiv 1512.05287. Everything else
        stays as in prediction. What the results mean, and which masks each framework has: docs/look-inside.md.

        Parameters
        ----------
        x, initial_state, lengths, mask, threads
            As `predict` takes them.
        samples : int
            How many predictions.
        seed : int
            0 to 2**64 - 1. One seed draws the same on every machine, whatever the threads and the number of samples:
            sample n is the same of 100 as of 1,000. A row draws by its place in the batch.
        rates : dict, optional
            Layer -> its rate, in place of what the file keeps, and for layers whose file keeps none: for recurrent
            layers that of what they read, or a dict of "dropout", "recurrent_dropout", "output_dropout" (of the result,
            number by number) and "masks" ("sequence", "gates" or "steps"); for dropout layers theirs; for others of
            their result. Stacked layers of PyTorch by their module's name: the rate between them. 0 turns one off.
        keep_samples : bool
            Whether the result holds all samples, which quantiles need: samples times the memory of a prediction.
            Without, memory does not grow with their number.

        Returns
        -------
        MonteCarlo
            With ``mean``, ``std``, ``samples`` and ``quantile(q)``.

        Raises
        ------
        ArgumentError
            If samples, seed or a rate is out of its range, a layer is not there, or nothing drops: the file kept no
            rates, and none are given.
        ShapeError
            As `predict`.
        UnsupportedError
            If a layer drops something within it: the weights of attention, what a ConvLSTM reads.
        """
        from cylstm.monte_carlo.predict import predict_monte_carlo

        return predict_monte_carlo(
            self, x, samples, seed, rates, initial_state, lengths, mask, keep_samples, threads
        )  # fmt: skip

    @in_standard_mode
    def quantize(
        self,
        weights: str = "int8",
        activations: str | None = None,
        keep_float32: Collection[str] = (),
        *,
        target: str | None = None,
        budget: float | None = None,
        data: Any = None,
    ) -> Model:
        """A new model whose weights take fewer bytes, and whose steps take less time where they are many.

        Parameters
        ----------
        weights : {"int8", "float16", "bfloat16"}
            "int8" is for matrices of LSTM, GRU, RNN and Dense layers: whole numbers of 8 bits with a scale for each
            row. Convolutions and tables of embeddings are float16 then, as are matrices over inputs whose columns are
            of very different size (raw units), and matrices of fewer than 4,096 weights stay float32.
        activations : {"int16", "int8"}, optional
            Of int8 weights: the bits of what they are multiplied by. None: what pays on `target`. "int16" is as exact
            as float32; "int8" is faster still, and used only where numbers are bounded, as states are.
        keep_float32 : list of str
            Layers, or parts of them such as ``"lstm.weight_ih"``, that stay as they are.
        target : {"x86", "pi5", "pi4", "pi3"}, optional
            The machine that the model is for; None: this one. It chooses `activations` alone, here and once: the model
            gives the same bits on every machine.
        budget : float, optional
            The largest rms difference of an output that is allowed, on `data`: parts with the worst error for each
            byte that they save are raised to float16 and to float32 until it holds.
        data : array_like, optional
            Inputs as `predict` takes them, for `budget`.

        Returns
        -------
        Model
            Its `quantization` says of each part which type it has, the bytes and the error.

        Raises
        ------
        ArgumentError
            For unknown types, targets or parts, and for a budget without data.
        UnsupportedError
            If this model has smaller weights already, or computes through a BLAS.

        Warns
        -----
        CylstmWarning
            Where float32 would be as fast.
        """
        from cylstm.quantization import quantize_model

        return quantize_model(self, weights, activations, keep_float32, target, budget, data)

    @property
    def quantization(self) -> tuple[QuantizedPart, ...]:
        """Of a model that `quantize` made: its matrices, with their types, bytes and errors. Empty for all others."""
        return self._quantization

    @in_standard_mode
    def compare(self, other: Model, x: Any, target: Any = None) -> Comparison:
        """How the predictions of another model, a quantised or pruned one, differ from those of this one.

        Parameters
        ----------
        other : Model
            Of the same inputs and outputs.
        x : array_like
            Inputs as `predict` takes them.
        target : array_like, optional
            What should have been predicted, of the outputs' shapes: then the root mean square errors are compared too.

        Returns
        -------
        Comparison
            The maximum, mean and rms difference.

        Raises
        ------
        ArgumentError
            If the models have other inputs or outputs, or a prediction is NaN or infinite.
        ShapeError
            As `predict`.
        """
        from cylstm.quantization import compare_models

        return compare_models(self, other, x, target)

    def stream(self, batch: int = 1, *, threads: int = 1, window: int | EllipsisType | None = ...) -> Stream:
        """A running state that starts at zero, or a window that moves along with the steps.

        Parameters
        ----------
        batch : int
            Rows that advance together, or some of them at a time: as many users of a server, say.
        threads : int
            Maximum number of threads of a step; a step too small to gain from them uses fewer (`Stream.threads`).
        window : int or None, optional
            None: the state runs on from step to step; of a Keras model with stateful layers that of these layers alone.
            Of a network without time some of whose states go on from call to call, each call is a step.
            A number n: each step is what `predict` gives for the last n steps, from a zero state, in one pass; also of
            networks that cannot run step by step. Left out: as None, but a model that was trained on windows (see
            `summary`) warns once that this may not be meant.

        Returns
        -------
        Stream
            With a window a `WindowStream`, which has the same methods.

        Warns
        -----
        CylstmWarning
            Once per model, if it was trained on windows and `window` is not given.

        Raises
        ------
        UnsupportedError
            If the network cannot run step by step, or with a window has no input with time; the message names the
            layer or the input.
        ShapeError
            If batch, threads or window is no number that the network takes.
        """
        from cylstm.stream import Stream, WindowStream

        if window is not None and window is not ...:
            return WindowStream(self, batch, threads, window)
        self._warn_of_windows(window)
        return Stream(self, batch, threads)

    @in_standard_mode
    def check_step(self, x: Any, *, finite: bool = False) -> Any:
        """One step of one row, checked and converted, with nothing computed: what a client sent, say.

        A server that advances many clients in one `stream` refuses a wrong one here, before it queues it.

        Parameters
        ----------
        x : array_like
            (features,), as `Stream.step` takes it for a stream of batch 1. Several inputs: all of them, as a list in
            the order of `inputs` or a dict by name.
        finite : bool
            Whether to refuse NaN and infinity too, and numbers beyond the range of `dtype`. In a running state they
            would stay.

        Returns
        -------
        ndarray
            (features,) of `dtype`, or int32 for indices: a row of what a stream's `step` takes. A list for several
            inputs.

        Raises
        ------
        ShapeError
            If it has another shape, rank or dtype, or an index is out of range.
        """
        from cylstm.arguments import check_flag
        from cylstm.inputs import read_step

        step = read_step(self._packed, x, check_flag("finite", finite))
        return step if len(step) > 1 else step[0]

    def _warn_of_windows(self, window: EllipsisType | None) -> None:
        """Say once that a running state is not what the network was trained with."""
        graph = self._graph
        if window is ... and graph.window is not None and not self._told and self.can_stream and graph.states():
            self._told.add("window")
            steps = f"{graph.window} step" + ("" if graph.window == 1 else "s")
            warnings.warn(
                f"the network was trained on windows of {steps} from a zero state, and the state of this stream runs "
                f"on past them: stream(window={graph.window}) predicts from the last {steps} at every step; "
                "stream(window=None) says that the running state is meant",
                CylstmWarning,
                stacklevel=3,
            )

    @property
    def can_stream(self) -> bool:
        """Whether the network can run step by step, its state running on; with a window any can that has time."""
        return self._why_no_stream() is None

    @property
    def state_names(self) -> list[tuple[str, ...]]:
        """The label of every state array, in the form of a state: ``[("lstm.h", "lstm.c"), ...]``."""
        return [tuple(f"{name}.{label}" for label, _ in parts) for name, parts in self.graph.states()]

    @in_standard_mode
    def save(
        self,
        path: str | os.PathLike[str],
        *,
        metadata: Mapping[str, Any] | None = None,
        packed: bool = False,
        check: Any = None,
    ) -> None:
        """Write a native ``.cylstm`` file, which `load` reads back to the same predictions, bit for bit.

        Parameters
        ----------
        path : path-like
            Must end in ``.cylstm``. An existing file is replaced once the new one is complete.
        metadata : dict of str to any value of JSON, optional
            Texts, numbers, truths, None, lists and dicts kept with the model, such as how its inputs were scaled;
            `metadata` of the loaded model. Default: this model's own.
        packed : bool
            Write the weights as the engine packs them, the same on every machine: `load` then packs nothing, and
            ``load(..., mmap=True)`` does not even copy them.
        check : array_like, list or dict, optional
            An input as `predict` takes it, at most 1 MB. The file keeps it and the hash of the bits that it gives, and
            ``python -m cylstm verify FILE`` proves on another machine that it gives the same there. A model that is
            loaded and saved again keeps a check only if it is given again.

        Raises
        ------
        UnsupportedError
            If `path` ends otherwise, or for a packed file or a check of a model with ``engine="blas"``.
        ShapeError
            If `check` does not fit the network, or is too large.
        ArgumentError
            If something in `metadata` is no value of JSON, such as NaN or an array (write ``x.tolist()``).
        """
        from cylstm.arguments import check_flag, check_metadata

        if check_flag("packed", packed) and self.engine != "packed":
            raise UnsupportedError(
                f'save(packed=True) writes the weights of engine="packed", this model has engine={self.engine!r}; '
                "save it unpacked and load that"
            )
        from cylstm.formats.registry import write

        kept = None
        if check is not None:
            from cylstm.checks import record

            kept = record(self, check)
        graph = self.graph
        if metadata is not None:
            graph = graph._replace(metadata=check_metadata(metadata))
        write(graph, path, self._packed.arrays_of_files() if packed else None, kept)

    @in_standard_mode
    def export_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        states: bool = False,
        lengths: bool = False,
        mask: bool = False,
    ) -> None:
        """Write the network as an ONNX model (opset 18), for ONNX Runtime and whatever else reads such files.

        Inputs and outputs keep their names and the order of their axes, the batch first. Batch and time are of any
        size where they are here; the file names them. Numbers are of this model's `dtype`, indices int64, and weights
        are rounded as this model holds them. Layers that ONNX has no operator for are written out in several, those
        that go step by step with a Scan.

        Parameters
        ----------
        path : path-like
            Must end in ``.onnx``. An existing file is replaced once the new one is complete.
        states : bool
            The file has an input ``NAME.initial`` and an output ``NAME.final`` for each name in `state_names`,
            (batch, ...), so that a caller can carry the states on from one piece of a sequence to the next, as with
            `predict` and ``initial_state``. Otherwise every call starts from zero, or from what the network computes.
        lengths, mask : bool
            For each input ``NAME`` of which a layer reads which steps count, the file has an input ``NAME.lengths``,
            int64 (batch,), or ``NAME.mask``, bool (batch, time), as `predict` takes them. Otherwise all steps of its
            inputs count, as in `predict` without both. Masks that the network computes itself are always exported.

        Raises
        ------
        UnsupportedError
            If `path` ends otherwise, if a layer or an option has no form in ONNX (the message names it), or if the
            file would take more than 2 GB.
        ArgumentError
            If `lengths` or `mask` is given and no layer reads which steps count, or if both are.
        OSError
            If the file cannot be written; one that was there before is then untouched.
        """
        from cylstm.arguments import check_flag
        from cylstm.formats.registry import export

        flags = {"states": states, "lengths": lengths, "mask": mask}
        export(self.graph, path, self.dtype, **{name: check_flag(name, flag) for name, flag in flags.items()})

    @in_standard_mode
    def extract(self, inputs: Sequence[str] | str | None = None, outputs: Sequence[str] | str | None = None) -> Model:
        """A part of the network as a model of its own, whose results have the same bits as in the whole.

        An encoder and a decoder that were trained as one network come apart like this, and so does the first half of a
        classifier, whose results are features::

            encoder = model.extract(outputs=["encoder.h", "encoder.c"])
            decoder = model.extract(["words", "encoder.h", "encoder.c"], ["softmax", "decoder.h", "decoder.c"])

        Parameters
        ----------
        inputs, outputs : list of str, optional
            Names of layers or values, as `summary` shows them: of a layer its output, of a recurrent layer also its
            last states ``"lstm.h"`` and ``"lstm.c"``. Left out: the outputs of the whole, and those of its inputs that
            the outputs depend on. `predict` takes and gives them in this order.

        Returns
        -------
        Model
            It has the engine, the dtype and the metadata of this one.

        Warns
        -----
        CylstmWarning
            If an input has steps that do not count, as a layer of the whole finds out: `predict` needs its ``mask=``.

        Raises
        ------
        ArgumentError
            If a name is none of the network's, or the outputs depend on more than the inputs; the message says which
            names there are.
        ShapeError
            If a layer needs a number of steps in advance that only the whole gives.
        """
        from cylstm.graph.extract import computed_masks, extract

        part = extract(self.graph, inputs, outputs)
        for name, layer in computed_masks(self.graph, part):
            warnings.warn(
                f"which steps of {name!r} count is found by layer {layer!r}, which the part has not: give predict the "
                "mask of those steps, or lengths",
                CylstmWarning,
                stacklevel=3,
            )
        return Model(part, engine=self.engine, dtype=str(self.dtype))

    @in_standard_mode
    def prune(
        self,
        report: UnitReport | None = None,
        *,
        fraction: float | None = None,
        data: Any = None,
        layers: Sequence[str] | str | None = None,
        multiple_of: int = 1,
        lengths: Any = None,
        mask: Any = None,
        threads: int | None = None,
        progress: bool = False,
    ) -> Model:
        """A smaller network, without units of its LSTM, GRU and RNN layers. `pruning` of it says what was removed.

        With a report, the units go that never changed or that repeated another at every step of its data: their weights
        go into the biases and into those of the unit that they repeat. **On these data** the outputs are the same to
        within rounding, from states of zeros. A unit that never fires there may fire elsewhere.

        With a fraction, that share of each layer's units goes, whatever they do: those whose output has the least
        variance times the sum of the squares of all weights that read it. Each becomes its mean over the data.

        Parameters
        ----------
        report : UnitReport, optional
            What `cylstm.explain.units` says of this model.
        fraction : float, optional
            Between 0 and 1; needs `data`.
        data : array_like or list of array_like, optional
            As `cylstm.explain.units` takes it. With it the error and the speed are measured too.
        layers : list of str, optional
            Names of recurrent layers; by default all.
        multiple_of : int
            With a fraction: fewer units go, so that the number of those that are left is a multiple. The kernels
            compute 16 units of an LSTM or GRU at a time, and 64 of an RNN.
        lengths, mask, threads
            As `predict` takes them, of a single batch of data.
        progress : bool
            Show a progress bar, which needs tqdm.

        Returns
        -------
        Model
            It has the names, the engine, the dtype and the metadata of this one. Its states are smaller.

        Raises
        ------
        ArgumentError
            If the report is of another model, or of data that began with other states than zeros; if neither a report
            nor a fraction is given, or both; if an argument has a value that it cannot have.
        UnsupportedError
            If weights are of int8, whose rows have scales; or a progress bar is asked for and tqdm is not installed.
        """
        from cylstm.explain.prune import prune

        def make(graph: Graph) -> Model:
            return Model(graph, engine=self.engine, dtype=str(self.dtype))

        given = {"lengths": lengths, "mask": mask, "threads": threads}
        found, told = prune(self, make, report, fraction, data, layers, multiple_of, given, progress)
        from cylstm.graph.graph import read_only

        # a check with a framework was one of the full network
        provenance = {name: item for name, item in found._graph.provenance.items() if name != "check"}
        provenance["pruning"] = told.to_dict()
        found._graph = found._graph._replace(provenance=read_only(provenance))
        return found

    @property
    def pruning(self) -> Pruning | None:
        """What `prune` removed, kept and measured; None for a model that it did not make, and for one from a file."""
        found = self._graph.provenance.get("pruning")
        if found is None:
            return None
        from cylstm.explain.prune import Pruning

        return Pruning.from_dict(found)  # type: ignore[arg-type]

    def summary(self) -> None:
        """Print the layers, their output shapes and parameters, and the memory of the weights and of a run.

        The memory of a run is what the values between layers, the states and scratch take beside the weights: in a
        stream of one row, or where the network cannot stream in `predict` of one row and 1,000 steps (the steps that
        the network fixes, if it does). A stream has room for pieces of a sequence: of many steps in a small network.
        """
        from cylstm.summary import summary_text

        print(summary_text(self))

    def __repr__(self) -> str:
        chosen = "" if self._reason is None else " by auto"
        kinds = [layer.kind for layer in self.graph.layers]
        if len(kinds) > 16:
            kinds[8:-4] = [f"{len(kinds) - 12} more"]
        return (
            f"<cylstm.Model {' -> '.join(kinds)}, "
            f"{self.graph.parameters():,} parameters, engine={self.engine!r}{chosen}, {self.dtype}>"
        )

    def _repr_html_(self) -> str:
        from cylstm.summary import summary_html

        return summary_html(self)

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Model:
        return self

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[object, ...]]:
        # "auto" chooses anew where the model is loaded
        engine = self.engine if self._reason is None else "auto"
        return _rebuild_checked, (Layout(), self.graph, engine, str(self.dtype))

    def _why_no_stream(self) -> str | None:
        try:
            return self._stream_refusal
        except AttributeError:
            from cylstm.graph.streaming import why_no_stream

            graph = self._graph
            reason = why_no_stream(graph)
            steps = {graph.values[name].shape[0] for name in graph.inputs if graph.values[name].has_time} - {None}
            if reason is not None and graph.stateful:
                reason += "; predict goes on as Keras does with initial_state= and return_state= of its stateful layers"
            elif reason is not None and len(steps) < 2 and any(graph.values[name].has_time for name in graph.inputs):
                window = graph.window or (steps.pop() if steps else "n")
                reason += f"; stream(window={window}) predicts from the last steps at every step"
            states = graph.provenance.get("states")
            if reason is not None and isinstance(states, dict):
                reason += f"; load the file with states={dict(states)!r}, and the layers carry these states on"
            self._stream_refusal = reason
            return reason


def _rebuild_checked(layout: object, graph: Graph, engine: str, dtype: str) -> Model:
    return Model(graph, engine=engine, dtype=dtype)


def _rebuild(graph: Graph, engine: str, dtype: str) -> Model:
    """What pickles call that older versions wrote."""
    return Model(graph, engine=engine, dtype=dtype)
