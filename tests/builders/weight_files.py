"""Weight files as PyTorch and Keras write them, made without either, so that any byte can be wrong on purpose."""

from __future__ import annotations

import io
import json
import struct
import zipfile

import numpy as np
import pytest

STORAGES = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "u2": "BFloat16", "b1": "Bool"}


def lstm_tensors(rng, prefix, inputs, hidden, *, layers=1, directions=1, projection=None, bias=True, dtype=np.float32):
    """Random tensors by the names and shapes of ``torch.nn.LSTM``."""
    start = f"{prefix}." if prefix else ""
    output = projection or hidden
    found = {}
    for k in range(layers):
        for suffix in (f"_l{k}", f"_l{k}_reverse")[:directions]:
            found[f"{start}weight_ih{suffix}"] = (4 * hidden, inputs if k == 0 else output * directions)
            found[f"{start}weight_hh{suffix}"] = (4 * hidden, output)
            if bias:
                found[f"{start}bias_ih{suffix}"] = found[f"{start}bias_hh{suffix}"] = (4 * hidden,)
            if projection:
                found[f"{start}weight_hr{suffix}"] = (projection, hidden)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in found.items()}


def linear_tensors(rng, prefix, inputs, outputs):
    """Random tensors by the names and shapes of ``torch.nn.Linear``."""
    return {
        f"{prefix}.weight": rng.standard_normal((outputs, inputs)).astype(np.float32),
        f"{prefix}.bias": rng.standard_normal(outputs).astype(np.float32),
    }


# Pickle opcodes, protocol 2


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value):
    return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


def tuple_of(*items):
    return b"(" + b"".join(items) + b"t"


def global_(name):
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def call(name, *arguments):
    return global_(name) + tuple_of(*arguments) + b"R"


def dictionary(items, start=b"}"):
    return start + b"(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def ordered_dict(items):
    """A state dict: an OrderedDict whose attribute ``_metadata`` is set."""
    return dictionary(items, call("collections.OrderedDict")) + b"}" + text("_metadata") + b"}" + b"sb"


def program(body):
    return b"\x80\x02" + body + b"."


def storage(kind, key, elements):
    described = tuple_of(text("storage"), global_(f"torch.{kind}Storage"), text(key), text("cpu"), integer(elements))
    return described + b"Q"


def tensor(kind, key, elements, offset, shape, strides):
    return call(
        "torch._utils._rebuild_tensor_v2",
        storage(kind, key, elements),
        integer(offset),
        tuple_of(*map(integer, shape)),
        tuple_of(*map(integer, strides)),
        b"\x89",
        call("collections.OrderedDict"),
    )


def real(number):
    """A float."""
    return b"G" + struct.pack(">d", number)


def quantised_tensor(key, array, scale, zero_point, *, kind="QInt8"):
    """A quantised tensor whose whole numbers are `array`; with an array of scales, one for each row."""
    quantizer = (
        tuple_of(global_("torch.per_tensor_affine"), real(scale), integer(zero_point))
        if isinstance(scale, float)
        else tuple_of(global_("torch.per_channel_affine"), scale, zero_point, integer(0))
    )
    shape = [integer(size) for size in array.shape]
    strides = [integer(step // array.itemsize) for step in array.strides]
    return call(
        "torch._utils._rebuild_qtensor", storage(kind, key, array.size), integer(0), tuple_of(*shape),
        tuple_of(*strides), quantizer, b"\x89", call("collections.OrderedDict"),
    )  # fmt: skip


def script_object(class_name, state):
    """An object of a class that PyTorch has written in C++."""
    return (
        global_("torch.ScriptObject") + b")\x81" + tuple_of(state, text(f"__torch__.torch.classes.{class_name}")) + b"b"
    )


def array_tensor(key, array):
    """The opcodes of a C-ordered array in its own storage `key`."""
    strides = [step // array.itemsize for step in array.strides]
    return tensor(STORAGES[array.dtype.str[1:]], key, array.size, 0, array.shape, strides)


class _Stream(io.RawIOBase):
    """A file that cannot seek, so that zipfile leaves sizes out of the local headers, as PyTorch does."""

    def __init__(self, path):
        self.file = open(path, "wb")  # noqa: SIM115 - closed by close()

    def writable(self):
        return True

    def write(self, data):
        return self.file.write(data)

    def close(self):
        self.file.close()
        super().close()


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    """Write `members` (name, bytes) in order; names may repeat."""
    with _Stream(path) as stream, zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def write_torch(
    path, tensors, *, wrap=lambda state: state, body=None, members=(), root="net", order="little", **options
):
    """Write a PyTorch checkpoint of arrays; `wrap` puts opcodes around the state dict's, `body` replaces them."""
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    state = ordered_dict({name: array_tensor(str(i), array) for i, (name, array) in enumerate(contiguous.items())})
    found = [
        (f"{root}/data.pkl", program(wrap(state) if body is None else body)),
        (f"{root}/.format_version", b"1"),
        (f"{root}/byteorder", order.encode()),
    ]
    for i, array in enumerate(contiguous.values()):
        data = array if order == "little" else array.byteswap()
        found.append((f"{root}/data/{i}", data.tobytes()))
    found += [(f"{root}/version", b"3\n"), (f"{root}/.data/serialization_id", b"1"), *members]
    return write_zip(path, found, **options)


def write_stream(path, tensors):
    """PyTorch's format from before 1.6."""
    state, records = {}, b""
    for i, (name, array) in enumerate(tensors.items()):
        strides = [step // array.itemsize for step in np.ascontiguousarray(array).strides]
        state[name] = tensor(STORAGES[array.dtype.str[1:]], str(i), array.size, 0, array.shape, strides[: array.ndim])
        records += array.size.to_bytes(8, "little") + np.ascontiguousarray(array).tobytes()
    system = dictionary({"little_endian": b"\x88", "protocol_version": integer(1001)})
    keys = b"](" + b"".join(text(str(i)) for i in range(len(tensors))) + b"e"
    parts = (integer(0x1950A86A20F9469CFC6C), integer(1001), system, ordered_dict(state), keys)
    path.write_bytes(b"".join(map(program, parts)) + records)
    return path


# safetensors


def write_safetensors(path, tensors, metadata=None, *, header=None, rest=b""):
    """Write arrays in the given order; `header` changes the header before it is written."""
    described, data = {}, b""
    if metadata is not None:
        described["__metadata__"] = metadata
    kinds = {"f4": "F32", "f8": "F64", "f2": "F16", "i8": "I64", "u2": "BF16"}
    for name, array in tensors.items():
        begin = len(data)
        data += np.ascontiguousarray(array).tobytes()
        described[name] = {
            "dtype": kinds[array.dtype.str[1:]],
            "shape": list(array.shape),
            "data_offsets": [begin, len(data)],
        }
    encoded = json.dumps(header(described) if header else described).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data + rest)
    return path


# Keras


def keras_layer(class_name, name, *, outer=None, **config):
    """A serialised layer as Keras 3 writes it."""
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": {"name": name, "trainable": True, "dtype": "float32", **config},
        "registered_name": None,
        **(outer or {}),
    }


def keras_input(*shape, name="input_layer"):
    return keras_layer("InputLayer", name, batch_shape=[None, *shape])


def keras_lstm(name, units, **options):
    defaults = {
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "zero_output_for_mask": False,
        "units": units,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
        "kernel_initializer": {"module": "keras.initializers", "class_name": "GlorotUniform", "config": {"seed": None}},
        "unit_forget_bias": True,
        "dropout": 0.0,
        "recurrent_dropout": 0.1,
        "seed": None,
    }
    return keras_layer("LSTM", name, **{**defaults, **options})


def keras_bidirectional(name, forward, backward=None, **options):
    config = {"merge_mode": "concat", "layer": forward, **options}
    if backward is not None:
        config["backward_layer"] = backward
    return keras_layer("Bidirectional", name, **config)


def keras_dense(name, units, **options):
    return keras_layer("Dense", name, **{"units": units, "activation": "linear", "use_bias": True, **options})


def keras_model(*layers):
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "sequential", "layers": list(layers)},
        "registered_name": None,
    }


def keras_lstm_weights(rng, inputs, units, dtype=np.float32):
    """Kernel, recurrent kernel and bias."""
    shapes = ((inputs, 4 * units), (units, 4 * units), (4 * units,))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def keras_dense_weights(rng, inputs, units):
    return [rng.standard_normal(shape).astype(np.float32) for shape in ((inputs, units), (units,))]


def write_keras(path, config, weights, *, version="3.15.1", edit=None, members=(), **options):
    """Write a ``.keras`` archive.

    `weights` maps a group such as ``layers/lstm/cell`` to its arrays; `edit` changes the HDF5 file; a member of
    `config` that is bytes stands for itself.
    """
    h5py = pytest.importorskip("h5py")

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for group, arrays in weights.items():
            variables = file.create_group(f"{group}/vars")
            for j, array in enumerate(arrays):
                variables[str(j)] = array
        if edit is not None:
            edit(file)
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    found = [
        ("metadata.json", json.dumps({"keras_version": version, "date_saved": "2024-01-01@00:00:00"}).encode()),
        ("config.json", text),
        ("model.weights.h5", buffer.getvalue()),
        *members,
    ]
    return write_zip(path, found, **options)


def write_h5(path, config, weights, *, version="2.15.0", edit=None, fixed=False, split=False):
    """Write a legacy ``.h5``; `weights` maps a layer's name to ``{weight name: array}``."""
    h5py = pytest.importorskip("h5py")

    def names(found):
        return np.array([name.encode() for name in found], "S") if fixed and found else list(found)

    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
        file.attrs["backend"] = "tensorflow"
        if version is not None:
            file.attrs["keras_version"] = version
        group = file.create_group("model_weights")
        if split:
            for i, name in enumerate(weights):
                group.attrs[f"layer_names{i}"] = names([name])
        else:
            group.attrs["layer_names"] = names(weights)
        for layer, arrays in weights.items():
            inner = group.create_group(layer)
            inner.attrs["weight_names"] = names(arrays)
            for name, array in arrays.items():
                inner[name] = array
        if edit is not None:
            edit(file)
    return path
