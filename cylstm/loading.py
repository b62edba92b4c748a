"""Models from files, and native files from files of any kind."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from cylstm.engine.choose import real_dtype
from cylstm.engine.mode import in_standard_mode
from cylstm.errors import CylstmWarning, FormatError, UnsupportedError
from cylstm.graph.graph import Graph, read_only
from cylstm.model import Model

if TYPE_CHECKING:
    from cylstm.formats.state_dict.wiring import Layer


@in_standard_mode
def load(
    path: str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes],
    *,
    layers: Sequence[Layer] | None = None,
    key: str | None = None,
    architecture: object = None,
    keras_version: str | None = None,
    custom_layers: Mapping[str, Any] | None = None,
    time: int | str | None = None,
    constants: Mapping[str, Any] | None = None,
    states: Mapping[str, str] | None = None,
    engine: str | None = None,
    dtype: str | None = None,
    weights: str | None = None,
    mmap: bool = False,
) -> Model:
    """Load a trained network from a file.

    The model holds its weights once, packed, and nothing of the file. ``.cylstm``, PyTorch's files and ``.safetensors``
    are read piece by piece, so at no time does loading need more memory than that and some megabytes; the others are
    read whole before they are packed.

    Parameters
    ----------
    path : path-like, bytes or file object
        ``.keras``, ``.h5``, ``.pt``, ``.pth``, ``.pt2``, ``.onnx``, ``.safetensors`` (or the index of several),
        ``.npz`` or ``.cylstm``. Also the bytes of such a file, or one that is open in binary mode, which is read to its
        end: they are copied while they are read, and cannot say that others lie beside them.
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
    custom_layers : dict of str to callable, optional
        What custom layers of a Keras model compute, by the name of their class, and Lambdas by the name of the layer:
        ``{"MyAttention": function}``. ``function(x, weights, config)`` is called while the model is loaded, with arrays
        that stand for those of the network, and gives what the layer gives; see docs/custom-layers.md. The error for a
        custom layer prints the function to fill in. A ``.cylstm`` that is saved from the model needs it no more.
    time : int or str, optional
        How many steps an exported program (``.pt2``, ``.onnx``) takes where its file leaves that open: a number, or
        ``"T"`` for any.
    constants : dict of str to number or array, optional
        Inputs of a model of ONNX that never change: ``{"sr": 16000}``.
    states : dict of str to str, optional
        Outputs of a model of ONNX that are states, and the inputs that take them at the next call:
        ``{"stateN": "state"}``. They become the states of its recurrent layers; see docs/files.md.
    engine, dtype, weights : str, optional
        See `Model`.
    mmap : bool
        Use the weights of a packed file (see `Model.save`) where they lie in it: loading reads none of them, and
        processes share them. Whether they are finite is not looked at. While the model lives the file must not be
        overwritten or truncated, which would change its predictions or end the process; replacing or removing it is
        harmless, and so is `Model.save` to the same name.

    Warns
    -----
    CylstmWarning
        If layers have Keras's ``stateful=True``: `Model.predict` starts them from zero at every call.

    Raises
    ------
    FormatError
        If the file is damaged, incomplete or of another kind.
    UnsupportedError
        If a layer, an option or the kind of file is not supported; the message names it.
    ShapeError
        If tensors do not fit together.
    """
    from cylstm.formats.registry import open_file

    if mmap is not False:
        mmap = _check_mmap(path, mmap, engine, dtype)
    with _path_of(path) as (source, name):
        graph, arrays = open_file(
            source,
            layers=layers,
            key=key,
            architecture=architecture,
            keras_version=keras_version,
            custom_layers=custom_layers,
            time=time,
            constants=constants,
            states=states,
            mmap=mmap,
        )
        graph = _named(graph, source, name)
        has_time = any([graph.values[name].has_time for name in graph.inputs])
        if graph.stateful and has_time and graph.provenance.get("format") != "onnx":
            warn_stateful(graph, f"{name}: ")
        if mmap and weights is not None:
            from cylstm.quantization import with_weights

            if with_weights(graph, weights).weight_types != graph.weight_types:
                raise UnsupportedError(
                    f"{name}: mmap=True maps the weights as the file has them, and not as {weights}; leave one of "
                    "both out"
                )
        try:
            return Model._of_arrays(graph, arrays, engine, dtype, weights)
        except FormatError as error:  # what shows only when tensors are packed
            if name in str(error):
                raise
            raise FormatError(f"{name}: {error}") from error


def _path_of(given: Any) -> AbstractContextManager[tuple[str | os.PathLike[str], str]]:
    """The path of a file, of a copy where it is in memory, while it is read; and what messages call it."""
    if isinstance(given, (str, os.PathLike)):
        return nullcontext((given, str(given)))
    from cylstm.formats.in_memory import path_of

    return path_of(given)


def _named(graph: Graph, source: str | os.PathLike[str], name: str) -> Graph:
    """The graph, whose provenance names the file and not its copy."""
    if str(source) == name:
        return graph
    from cylstm.formats.in_memory import with_name

    return graph._replace(provenance=with_name(dict(graph.provenance), str(source), name))


def read(path: str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes], **options: Any) -> Graph:
    """Read a network from a file of any kind into a graph; takes and raises as `cylstm.formats.registry.open_file`.

    The weights of a packed file are unpacked by the engine.
    """
    from cylstm.formats.registry import open_file

    with _path_of(path) as (source, name):
        graph, arrays = open_file(source, **options)
        graph = _named(graph, source, name)
        if arrays is not None:
            graph = Model._of_arrays(graph, arrays, None, None).graph
        return graph._replace(tensors=dict(graph.tensors), provenance=read_only(graph.provenance))


@in_standard_mode
def convert(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes],
    target: str | os.PathLike[str],
    *,
    layers: Sequence[Layer] | None = None,
    key: str | None = None,
    architecture: object = None,
    keras_version: str | None = None,
    custom_layers: Mapping[str, Any] | None = None,
    time: int | str | None = None,
    constants: Mapping[str, Any] | None = None,
    states: Mapping[str, str] | None = None,
    dtype: str | None = None,
    weights: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    check: Any = None,
) -> None:
    """Read a network from a file of any kind and write it as a native ``.cylstm``, which needs no further arguments.

    A target that ends in ``.onnx`` becomes an ONNX model instead, as `Model.export_onnx` writes it.

    Parameters
    ----------
    source : path-like, bytes or file object
        As for `load`.
    target : path-like
    layers, key, architecture, keras_version, custom_layers, time, constants, states
        As for `load`.
    dtype : {"float32", "float64"}, optional
        Of the weights written. None keeps each as it is.
    weights : {"float32", "float16", "bfloat16", "int8", "int8a16", "int8a8"}, optional
        As for `Model`: matrices are rounded, and take half or a quarter of the space then.
    metadata : dict of str to any value of JSON, optional
        Texts, numbers, truths, None, lists and dicts to put into the file: scaling, units, names. They are added to
        what the source has.
    check : array_like, list or dict, optional
        An input that the file keeps for ``python -m cylstm verify``: see `Model.save`. The weights written have to be
        float32 then.

    Raises
    ------
    FormatError, UnsupportedError, ShapeError
        As `load` does.
    OSError
        If `target` cannot be written; a file that was there before is then untouched.
    """
    from cylstm.arguments import check_metadata

    kind = None if dtype is None else real_dtype(dtype)
    added = {} if metadata is None else check_metadata(metadata)
    graph = read(
        source,
        layers=layers,
        key=key,
        architecture=architecture,
        keras_version=keras_version,
        custom_layers=custom_layers,
        time=time,
        constants=constants,
        states=states,
    )
    if kind is not None:
        graph = graph._replace(tensors={name: array.astype(kind) for name, array in graph.tensors.items()})
    if weights is not None:
        from cylstm.quantization import with_weights

        graph = with_weights(graph, weights)
    if graph.weight_types:  # rounded there
        graph = Model(graph, dtype=dtype).graph
    graph = graph._replace(metadata={**graph.metadata, **added})
    is_wide = any(array.dtype == np.float64 for array in graph.tensors.values())
    _write(graph, target, check, is_wide)
    _tell(graph, source, target)


def _write(graph: Graph, target: str | os.PathLike[str], check: Any, is_wide: bool) -> None:
    """What `convert` read, into a file of the kind of its name, with what a check gives."""
    from cylstm.formats.registry import export, is_onnx_path, write

    if is_onnx_path(target):
        if check is not None:
            raise UnsupportedError(f"{target}: check= is kept by .cylstm files only; leave it out")
        real = np.dtype(np.float64 if is_wide else np.float32)
        export(graph, target, real, states=False, lengths=False, mask=False)
        return
    if check is None:
        write(graph, target)
        return
    if is_wide:
        raise UnsupportedError(
            'check= keeps bits of float32, and the weights are float64; convert with dtype="float32"'
        )
    from cylstm.checks import record

    write(graph, target, None, record(Model(graph), check))


def _tell(graph: Graph, source: object, target: str | os.PathLike[str]) -> None:
    """Log what was converted, to the logger ``cylstm`` at the level INFO."""
    import logging

    log = logging.getLogger("cylstm")
    if not log.isEnabledFor(logging.INFO):
        return
    read_from = source if isinstance(source, (str, os.PathLike)) else type(source).__name__
    count, parameters = len(graph.layers), graph.parameters()
    log.info(
        "wrote %s: %d layer%s, %s parameter%s, %s bytes, read from %s",
        os.fspath(target), count, "" if count == 1 else "s", f"{parameters:,}", "" if parameters == 1 else "s",
        f"{os.path.getsize(target):,}", read_from,
    )  # fmt: skip


def warn_stateful(graph: Graph, where: str) -> None:
    """Say to the caller of the function that calls this what becomes of layers whose state was to go on."""
    from cylstm.graph.streaming import how_states_go_on

    names = ", ".join(graph.stateful)
    if graph.provenance.get("format") == "cylstm":  # which may have come from Keras or from ONNX
        found = f"layers whose state is meant to go on from one call of predict to the next: {names}. Here"
    else:
        found = (
            f"layers with stateful=True: {names}. In Keras their state goes on from one call of predict to the next; "
            "here"
        )
    warnings.warn(
        f"{where}{found} every call of predict starts from zero: {how_states_go_on(graph)}",
        CylstmWarning,
        stacklevel=4,
    )


def _check_mmap(path: object, mmap: object, engine: str | None, dtype: str | None) -> bool:
    """Whether to map the file's weights. Raises `UnsupportedError` about an engine or a type that cannot."""
    from cylstm.arguments import check_flag

    if not check_flag("mmap", mmap):
        return False
    if not isinstance(path, (str, os.PathLike)):
        raise UnsupportedError("mmap=True maps the file at a path; leave it out for bytes and open files")
    if engine not in (None, "packed") or (dtype is not None and real_dtype(dtype) != np.float32):
        raise UnsupportedError(f'{path}: mmap=True maps the weights of engine="packed" in float32; leave it out')
    return True
