"""What each layer of ``torch.nn`` becomes: one function per class, in the table `MODULES`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cylstm.formats.torch.graph import BATCH, Dim, Frames, Rows, Scores, Stack, Tensor, Unavailable, Wiring
from cylstm.formats.torch.rows import as_rows, flat, has_rows, on_rows, reshape_rows, together
from cylstm.graph.activations import activation_options
from cylstm.graph.graph import Value

_SYMBOLS = (Tensor, Stack, Scores, Unavailable, Rows, Frames)


def class_of(module: Any) -> type:
    """The class of a layer, without what ``torch.nn.utils.parametrize`` made of it."""
    kind = type(module)
    return kind.__mro__[1] if kind.__module__ == "torch.nn.utils.parametrize" else kind


def is_known(module: Any) -> bool:
    """Whether it is a layer of ``torch.nn`` that has a function here."""
    kind = class_of(module)
    return kind.__module__.startswith("torch.nn.") and kind.__name__ in MODULES


def call_module(w: Wiring, module: Any, args: tuple, kwargs: dict) -> object:
    """The result of calling a layer. Raises `UnsupportedError` for one that has no function here."""
    if not is_known(module):
        kind = class_of(module)
        raise w.refuse(f"{kind.__module__}.{kind.__name__} is not supported")
    name = class_of(module).__name__
    if not any(isinstance(one, _SYMBOLS) for one in flat((args, kwargs))):
        return module(*args, **kwargs)  # of constants alone, such as a first state
    if name not in ("Flatten", "Unflatten") and has_rows((args, kwargs)):
        call = functools.partial(MODULES[name], w, module)
        return on_rows(w, name, call, args, kwargs, getattr(module, "dim", None))
    return MODULES[name](w, module, *args, **kwargs)


# Elementwise


def activation(w: Wiring, x: object, name: str, alpha: float | None = None, beta: float | None = None) -> Tensor:
    x = w.tensor(x)
    options = activation_options("activation", name, alpha, beta, where=f"layer {w.name!r}")
    return Tensor(w.add_layer("activation", x.value, options=options, part=""), x.axes)


def softmax(w: Wiring, x: object, dim: int | None, log: bool = False) -> Tensor:
    x = w.tensor(x)
    if dim is None:
        # PyTorch's old rule: axis 0 of 0, 1 or 3 axes, else axis 1
        dim = 0 if len(x.axes) in (0, 1, 3) else 1
    axis = w.axis(x, dim)
    if x.axes[axis] is None:
        x = w.last(x, axis)
    return Tensor(w.add_layer("softmax", x.value, options={"axis": x.axes[axis], "log": log}), x.axes)


def glu(w: Wiring, x: object, dim: int = -1) -> Tensor:
    x = w.tensor(x)
    x = w.last(x, w.axis(x, dim))
    return Tensor(w.add_layer("glu", x.value), x.axes)


def hardswish(w: Wiring, x: object) -> Tensor:
    """x hard_sigmoid(x)."""
    x = w.tensor(x)
    return w.merge("mul", [x, activation(w, x, "hard_sigmoid", 1 / 6, 0.5)])


def mish(w: Wiring, x: object) -> Tensor:
    """x tanh(softplus(x))."""
    x = w.tensor(x)
    return w.merge("mul", [x, activation(w, activation(w, x, "softplus"), "tanh")])


def celu(w: Wiring, x: object, alpha: float) -> Tensor:
    """alpha elu(x / alpha)."""
    return w.affine(activation(w, w.affine(w.tensor(x), 1 / alpha, 0.0), "elu"), alpha, 0.0)


def log_sigmoid(w: Wiring, x: object) -> Tensor:
    """-softplus(-x)."""
    return w.affine(activation(w, w.affine(w.tensor(x), -1.0, 0.0), "softplus"), -1.0, 0.0)


def softplus(w: Wiring, x: object, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """softplus(beta x) / beta; beyond the threshold PyTorch's x differs from it by less than e^-threshold."""
    if threshold < 15:
        raise w.refuse(f"softplus with a threshold of {threshold}, at which it jumps, is not supported")
    if beta == 1:
        return activation(w, x, "softplus")
    return w.affine(activation(w, w.affine(w.tensor(x), beta, 0.0), "softplus"), 1 / beta, 0.0)


def softshrink(w: Wiring, x: object, limit: float) -> Tensor:
    """x - clip(x, -limit, limit)."""
    x = w.tensor(x)
    return w.merge("sub", [x, activation(w, x, "clip", -limit, limit)])


def tanhshrink(w: Wiring, x: object) -> Tensor:
    """x - tanh(x)."""
    x = w.tensor(x)
    return w.merge("sub", [x, activation(w, x, "tanh")])


def prelu(w: Wiring, x: object, weight: Any) -> Tensor:
    x = w.tensor(x)
    slope = w.array(weight).reshape(-1)
    if slope.size > 1:
        x = w.last(x, w.axis(x, 1))
    return Tensor(w.add_layer("prelu", x.value, {"slope": slope}), x.axes)


def unchanged(w: Wiring, x: object, *args: object, **kwargs: object) -> object:
    """What PyTorch does not change in prediction."""
    return x


# Affine maps


def linear(w: Wiring, x: object, weight: Any, bias: Any = None, *, part: str = "") -> Tensor:
    x = w.tensor(x)
    x = w.last(x, w.axis(x, -1))
    weights = {"weight": weight if isinstance(weight, np.ndarray) else w.array(weight)}
    weights["bias"] = bias if isinstance(bias, np.ndarray) else w.array(bias)
    return Tensor(w.add_layer("dense", x.value, weights, part=part), x.axes)


def embedding(w: Wiring, x: object, weight: Any, max_norm: float | None = None) -> Tensor:
    if not isinstance(x, Tensor) or x.value.kind != "index":
        raise w.refuse("an Embedding of something else than an input of the network")
    if max_norm is not None:
        raise w.refuse("max_norm, which changes the weights, is not supported")
    value = w.add_layer("embedding", x.value, {"weight": w.array(weight)})
    return Tensor(value, (*x.axes, len(value.shape) - 1))


# Convolution and pooling


def channels_last(w: Wiring, x: object) -> tuple[Tensor, Value]:
    """A tensor (batch, channels, time) and its value (time, channels)."""
    x = w.tensor(x)
    if len(x.axes) != 3 or x.batch != 0:
        raise w.refuse(f"expected a tensor (batch, channels, time), found {x.shape}")
    return x, w.arrange(x, [2, 1])


def one(w: Wiring, number: object, what: str) -> int:
    """An option of one axis: a number, or a tuple of one."""
    if isinstance(number, (tuple, list)) and len(number) == 1:
        number = number[0]
    if type(number) is not int:
        raise w.refuse(f"{what} expected a whole number, found {number!r}")
    return number


def conv1d(
    w: Wiring,
    x: object,
    weight: Any,
    bias: Any = None,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
    x = w.tensor(x)
    array = w.array(weight)
    if array.ndim != 3:
        raise w.refuse(f"expected a weight (filters, channels, kernel), found shape {array.shape}")
    stride, dilation = one(w, stride, "stride"), one(w, dilation, "dilation")
    reach = (array.shape[2] - 1) * dilation
    if padding == "same":
        before, after = reach // 2, reach - reach // 2
    elif padding == "valid":
        before = after = 0
    else:
        before = after = one(w, padding, "padding")
    if padding_mode != "zeros" and (before or after):
        mode = {"reflect": "reflect", "replicate": "replicate", "circular": "circular"}[padding_mode]
        x, before, after = pad_axis(w, x, 2, before, after, mode), 0, 0
    cropped = 0
    if padding_mode == "zeros" and x.unpadded is not None and x.unpadded[1] == 2:
        x, _, more_before, more_after = x.unpadded
        before, after = before + more_before, after + more_after
    if before == after == reach and stride == 1 and reach and _is_cropped(w, reach):
        after, cropped = 0, reach
    x, value = channels_last(w, x)
    options: dict[str, object] = {"stride": stride, "dilation": dilation, "groups": groups}
    if before == reach and after == 0:
        options["padding"] = "causal" if reach else "valid"
        # the last window has to end at the last step for the number of windows to be the same
        if stride > 1 and reach:
            options |= {"padding": "explicit", "pad_before": before}
    elif before or after:
        options |= {"padding": "explicit", "pad_before": before, "pad_after": after}
    value = w.add_layer("conv1d", value, {"weight": array.transpose(0, 2, 1), "bias": w.array(bias)}, options)
    return Tensor(value, (BATCH, 1, 0), cropped=cropped)


def _is_cropped(w: Wiring, steps: int) -> bool:
    """Whether everything that reads the operation only cuts so many steps off its end, ``y[:, :, :-steps]``."""
    return bool(w.fx_node.users) and all(
        user.op == "call_function"
        and getattr(user.target, "__name__", "") == "getitem"
        and isinstance(user.args[1], tuple)
        and user.args[1] == (*(slice(None),) * (len(user.args[1]) - 1), slice(None, -steps, None))
        and (len(user.args[1]) == 3)
        for user in w.fx_node.users
    )


def pad_axis(w: Wiring, x: Tensor, axis: int, before: int, after: int, mode: str = "zero") -> Tensor:
    """Numbers before and after one of PyTorch's axes; negative ones cut."""
    axis = w.axis(x, axis)
    if before < 0 or after < 0:
        x = cut(w, x, axis, max(-before, 0), max(-after, 0))
        before, after = max(before, 0), max(after, 0)
    if not before and not after:
        return x
    if x.axes[axis] is None:
        x = w.last(x, axis)
    options = {"axis": x.axes[axis], "before": before, "after": after, "mode": mode}
    value = w.add_layer("pad", x.value, options=options, part="pad" if w.fx_node.op == "call_module" else "")
    return Tensor(value, x.axes, unpadded=(x, axis, before, after) if mode == "zero" else None)


def cut(w: Wiring, x: Tensor, axis: int, start: int, before_end: int, step: int = 1) -> Tensor:
    """``x[start : len - before_end : step]`` of one of PyTorch's axes."""
    if not start and not before_end and step == 1:
        return x
    if x.axes[axis] is None:
        x = w.last(x, axis)
    options = {"axis": x.axes[axis], "start": start, "before_end": before_end, "step": step}
    return Tensor(w.add_layer("slice", x.value, options=options), x.axes)


def pool1d(
    w: Wiring,
    x: object,
    mode: str,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    dilation: object = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Tensor:
    x, value = channels_last(w, x)
    whole = kernel_size[0] if isinstance(kernel_size, (tuple, list)) and len(kernel_size) == 1 else kernel_size
    if whole == x.size(2) and isinstance(whole, Dim) and stride in (None, (), whole) and not padding:
        # F.max_pool1d(x, x.shape[2]): over all steps
        mode = {"average": "mean"}.get(mode, mode)
        return Tensor(w.add_layer("reduce", value, options={"mode": mode, "axis": 0}), (BATCH, 0, None))
    pool = one(w, kernel_size, "kernel_size")
    steps = pool if stride in (None, ()) else one(w, stride, "stride")
    around = one(w, padding, "padding")
    options: dict[str, object] = {"mode": mode, "pool": pool, "stride": steps, "dilation": one(w, dilation, "dilation")}
    options |= {"ceil_mode": bool(ceil_mode), "count_include_pad": bool(count_include_pad)}
    if around:
        options |= {"padding": "explicit", "pad_before": around, "pad_after": around}
    return Tensor(w.add_layer("pool1d", value, options=options), (BATCH, 1, 0))


def global_pool(w: Wiring, x: object, mode: str, size: object) -> Tensor:
    """An adaptive pooling to one step, or to a number that divides the steps."""
    x, value = channels_last(w, x)
    size = one(w, size, "output_size")
    if size == 1:
        return Tensor(w.add_layer("reduce", value, options={"mode": mode, "axis": 0}), (BATCH, 0, None))
    steps = value.shape[0]
    if steps is None or steps % size:
        raise w.refuse(f"adaptive pooling of {steps or 'any number of'} steps to {size} is not supported")
    options = {"mode": {"mean": "average"}.get(mode, mode), "pool": steps // size, "stride": steps // size}
    return Tensor(w.add_layer("pool1d", value, options=options), (BATCH, 1, 0))


def upsample(w: Wiring, x: object, size: object, factor: object, mode: str) -> Tensor:
    x = w.tensor(x)
    if mode != "nearest" or size is not None or len(x.axes) != 3:
        raise w.refuse(f"only mode='nearest' of (batch, channels, time) by a scale_factor is supported, found {mode!r}")
    factor = factor[0] if isinstance(factor, tuple) else factor
    if not float(factor).is_integer() or factor < 1:
        raise w.refuse(f"scale_factor expected a whole number, found {factor!r}")
    axis = w.axis(x, 2)
    if x.axes[axis] is None:
        x = w.last(x, axis)
    return Tensor(w.add_layer("upsample", x.value, options={"axis": x.axes[axis], "size": int(factor)}), x.axes)


# Normalisation


def batch_norm(w: Wiring, x: object, mean: Any, variance: Any, weight: Any, bias: Any, eps: float) -> Tensor:
    if mean is None or variance is None:
        raise w.refuse("without running statistics it takes those of the batch, which mixes its rows")
    x = w.tensor(x)
    x = w.last(x, w.axis(x, 1))
    weights = {"mean": mean, "variance": variance, "gain": weight, "shift": bias}
    weights = {role: w.array(tensor) for role, tensor in weights.items()}
    return Tensor(w.add_layer("batch_norm", x.value, weights, {"epsilon": float(eps)}), x.axes)


def layer_norm(
    w: Wiring, x: object, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, mode="layer"
) -> Tensor:
    x = w.tensor(x)
    count = len(shape)
    axes = [w.axis(x, i) for i in range(-count, 0)]
    if tuple(x.size(i) for i in axes) != tuple(shape):
        raise w.refuse(f"normalises over {tuple(shape)}, found a tensor {x.shape}")
    if count == 1:
        x = w.last(x, axes[0])
    else:
        wanted = [i for i in x.stored if i not in axes] + axes
        x = w.place(w.arrange(x, wanted), wanted, x)
    weights = {
        role: None if tensor is None else w.array(tensor).reshape(-1)
        for role, tensor in (("gain", weight), ("shift", bias))
    }
    options = {"mode": mode, "axes": count, "epsilon": float(eps)}
    return Tensor(w.add_layer("layer_norm", x.value, weights, options), x.axes)


def group_norm(w: Wiring, x: object, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    x = w.tensor(x)
    x = w.last(x, w.axis(x, 1))
    weights = {"gain": w.array(weight), "shift": w.array(bias)}
    return Tensor(w.add_layer("group_norm", x.value, weights, {"groups": groups, "epsilon": float(eps)}), x.axes)


def instance_norm(w: Wiring, m: Any, x: object) -> Tensor:
    x = w.tensor(x)
    if len(x.axes) != 3 or x.batch != 0:
        raise w.refuse(f"expected a tensor (batch, channels, time), found {x.shape}")
    if m.track_running_stats:
        return batch_norm(w, x, m.running_mean, m.running_var, m.weight, m.bias, m.eps)
    return group_norm(w, x, m.num_features, m.weight, m.bias, m.eps)


# Recurrent layers

_OPS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}


def recurrent_weights(w: Wiring, kind: str, get: Callable[[str], Any]) -> dict[str, np.ndarray | None]:
    """Role -> array of one layer and direction, the two biases summed where only their sum counts."""
    weights = {role: w.array(get(role)) for role in ("weight_ih", "weight_hh", "weight_hr")}
    bias_ih, bias_hh = w.array(get("bias_ih")), w.array(get("bias_hh"))
    if kind == "GRU":
        return weights | {"bias_ih": bias_ih, "bias_hh": bias_hh}
    return weights | {"bias": None if bias_ih is None else bias_ih + bias_hh}


def recurrent_options(w: Wiring, kind: str, m: Any) -> dict[str, object]:
    if kind != "RNN":
        return {}
    return activation_options("activation", m.nonlinearity, where=f"layer {w.name!r}")


def learned(w: Wiring, constant: Any, x: Value) -> Value:
    """A constant of the module, (1, size), as a vector of every row of `x`: 0 times one of its numbers, and a bias."""
    for axis in range(len(x.shape)):
        x = w.add_layer("slice", x, options={"axis": axis, "start": 0, "count": 1}, part="row")
    one = w.add_layer("reshape", x, options={"shape": "1"}, part="row") if len(x.shape) > 1 else x
    options = activation_options("activation", "clip", 0.0, 0.0, where=f"layer {w.name!r}")
    bias = constant.detach().numpy().reshape(-1).astype(w.dtype)
    weights = {"weight": np.zeros((bias.size, 1), w.dtype), "bias": bias}
    return w.add_layer("dense", w.add_layer("activation", one, options=options, part="zero"), weights, part="start")


def initial_states(w: Wiring, state: object, count: int, x: Value) -> list[Value | None]:
    """The parts of an (layers * directions, batch, size) state; None for zeros."""
    if isinstance(state, Stack):
        if len(state.parts) != count:
            raise w.refuse(f"expected a state of {count} layers and directions, found {len(state.parts)}")
        return list(state.parts)
    if state is None or _is_zero(state):
        return [None] * count
    if hasattr(state, "dtype") and tuple(state.shape[:2]) == (count, 1) and state.ndim == 3:
        return [learned(w, one, x) for one in state]
    state = w.tensor(state)
    if len(state.axes) != 3 or state.batch != 1 or state.size(0) != count:
        raise w.refuse(f"expected a state of shape ({count}, batch, size), found {state.shape}")
    if state.axes[0] is None:
        return [w.arrange(state, [2])]
    parts = []
    for k in range(count):
        options = {"axis": state.axes[0], "start": k, "count": 1}
        part = w.add_layer("slice", state.value, options=options, part=f"state{k}")
        parts.append(w.arrange(Tensor(part, (None, BATCH, state.axes[2])), [2]))
    return parts


def _is_zero(state: object) -> bool:
    return hasattr(state, "dtype") and not bool(state.any())


def recurrent(w: Wiring, m: Any, x: object, state: object = None) -> tuple:
    kind = class_of(m).__name__
    x = w.tensor(x)
    time = 1 if m.batch_first else 0
    if len(x.axes) != 3 or x.batch != 1 - time:
        raise w.refuse(f"expected ({'batch, time' if time else 'time, batch'}, features), found {x.shape}")
    value = w.arrange(x, [time, 2])
    directions = 2 if m.bidirectional else 1
    count = m.num_layers * directions
    given = state if kind == "LSTM" and state is not None else (state,)
    if not isinstance(given, (tuple, list)) or (kind == "LSTM" and state is not None and len(given) != 2):
        raise w.refuse("expected a tuple (h_0, c_0) as its state")
    parts = {role: initial_states(w, one, count, value) for role, one in zip(("h0", "c0"), given)}
    hidden, cells = [], []
    for k in range(m.num_layers):
        results = []
        for reverse in range(directions):
            suffix = f"_l{k}_reverse" if reverse else f"_l{k}"
            weights = recurrent_weights(w, kind, lambda role, suffix=suffix: getattr(m, role + suffix, None))
            options = {**recurrent_options(w, kind, m), "reverse": bool(reverse)}
            first = {role: states[k * directions + reverse] for role, states in parts.items()}
            # lengths reach the layers above through the masks of their inputs
            outputs = w.add_layers(
                _OPS[kind], value, weights, options, part=f"l{k}.reverse" if reverse else f"l{k}", **first
            )
            results.append(outputs["y"])
            hidden.append(outputs["h"])
            cells.append(outputs.get("c"))
        value = results[0]
        if reverse:
            value = w.add_layer("merge", value, options={"mode": "concat"}, part=f"l{k}.merge", x1=results[1])
    y = Tensor(value, (BATCH, 0, 1) if time else (0, BATCH, 1))
    return y, (Stack(tuple(hidden)), Stack(tuple(cells))) if kind == "LSTM" else Stack(tuple(hidden))


def cell(w: Wiring, m: Any, x: object, state: object = None) -> object:
    """One step of a cell: a sequence of one step."""
    kind = class_of(m).__name__.removesuffix("Cell")
    x = w.tensor(x)
    if len(x.axes) != 2 or x.batch != 0:
        raise w.refuse(f"expected (batch, features), found {x.shape}")
    features = w.arrange(x, [1])
    value = w.add_layer("reshape", features, options={"shape": f"1,{features.features}"}, part="step")
    given = state if kind == "LSTM" and state is not None else (state,)
    first = {}
    for role, one_state in zip(("h0", "c0"), given):
        if one_state is not None and not _is_zero(one_state):
            constant = hasattr(one_state, "dtype") and tuple(one_state.shape) == (1, m.hidden_size)
            first[role] = learned(w, one_state, features) if constant else w.arrange(w.tensor(one_state), [1])
    weights = recurrent_weights(w, kind, lambda role: getattr(m, role, None))
    outputs = w.add_layers(_OPS[kind], value, weights, recurrent_options(w, kind, m), **first)
    h = Tensor(outputs["h"], (BATCH, 0))
    return (h, Tensor(outputs["c"], (BATCH, 0))) if kind == "LSTM" else h


# Attention


def is_causal_mask(mask: Any, steps: object) -> bool:
    """Whether a constant mask (steps, steps) leaves out exactly the later keys."""
    if not hasattr(mask, "dtype") or mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        return False
    array = mask.numpy()
    later = np.triu(np.ones(array.shape, bool), 1)
    if array.dtype == np.bool_:
        return bool((array == later).all())
    return bool(np.isneginf(array[later]).all() and (array[~later] == 0).all())


def multihead_attention(
    w: Wiring,
    m: Any,
    query: object,
    key: object,
    value: object,
    key_padding_mask: object = None,
    need_weights: bool = True,
    attn_mask: object = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple:
    if m.bias_k is not None or m.bias_v is not None or m.add_zero_attn:
        raise w.refuse("add_bias_kv and add_zero_attn are not supported")
    tensors = [w.tensor(one) for one in (query, key, value)]
    time = 1 if m.batch_first else 0
    if any(len(t.axes) != 3 or t.batch != 1 - time for t in tensors):
        raise w.refuse(f"expected ({'batch, time' if time else 'time, batch'}, features), found {tensors[0].shape}")
    causal = False
    if attn_mask is not None:
        causal = is_causal_mask(attn_mask, None)
        if not causal or tensors[0].size(time) != attn_mask.shape[0] or tensors[1].size(time) != attn_mask.shape[1]:
            raise w.refuse("attn_mask may only be the constant causal mask of the steps that are there")
    width = m.embed_dim
    if m._qkv_same_embed_dim:
        projections = np.split(w.array(m.in_proj_weight), 3)
    else:
        projections = [w.array(one) for one in (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight)]
    biases = [None] * 3 if m.in_proj_bias is None else np.split(w.array(m.in_proj_bias), 3)
    values = [
        w.add_layer("dense", w.arrange(t, [time, 2]), {"weight": np.ascontiguousarray(weight), "bias": bias}, part=part)
        for t, weight, bias, part in zip(tensors, projections, biases, ("query", "key", "value"))
    ]
    others: dict[str, Value | None] = {"key": values[1], "value": values[2], "mask": None}
    if key_padding_mask is not None:
        if not isinstance(key_padding_mask, Unavailable) or values[1].mask is None:
            raise w.refuse("key_padding_mask may only be an input of the network: give lengths or a mask to predict")
        others["mask_value"] = w.builder.value(values[1].mask)
    options = {"heads": m.num_heads, "scale": 1.0 / math.sqrt(width // m.num_heads), "causal": causal}
    y = w.add_layer("attention", values[0], options=options, part="heads", **others)
    y = w.add_layer("dense", y, {"weight": w.array(m.out_proj.weight), "bias": w.array(m.out_proj.bias)}, part="out")
    weights = Unavailable("the weights of the attention are not computed") if need_weights else None
    return Tensor(y, (BATCH, 0, 1) if time else (0, BATCH, 1)), weights


# Shapes


def flatten(w: Wiring, x: object, start: int = 0, end: int = -1) -> Tensor | Rows:
    if isinstance(x, (Rows, Frames)):
        x = together(w, x)
        sizes = list(x.steps.shape)
        start, end = start % (len(sizes) - 1) + 1, end % (len(sizes) - 1) + 1
        if start < 2:
            raise w.refuse("flattening the rows of steps with what is behind them is not supported")
        return Rows(reshape(w, x.steps, [*sizes[:start], math.prod(sizes[start : end + 1]), *sizes[end + 1 :]]))
    x = w.tensor(x)
    rank = len(x.axes)
    start, end = start % rank, end % rank
    if (start, end) == (0, 1):
        rows = as_rows(w, x, [Dim(x.shape[:2]), *x.shape[2:]])
        if rows is not None:
            return rows
    if start <= x.batch <= end and end > start:
        raise w.refuse("flattening the batch mixes its rows, which are predicted each for itself")
    sizes = [x.size(i) for i in range(rank)]
    inside = sizes[start : end + 1]
    merged: object = -1 if any(isinstance(size, Dim) for size in inside) else math.prod(inside)
    return reshape(w, x, [*sizes[:start], merged, *sizes[end + 1 :]])


def reshape(w: Wiring, x: object, shape: Sequence[object]) -> Tensor | Rows:
    """Into another shape, in which the batch stays an axis of its own, or steps become rows."""
    shape = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else list(shape)
    if isinstance(x, (Rows, Frames)):
        return reshape_rows(w, x, shape)
    x = w.tensor(x)
    rows = as_rows(w, x, shape)
    if rows is not None:
        return rows
    sizes = list(x.shape)
    wanted = _filled(w, sizes, shape)
    # the axes in front and behind that stay as they are
    front = 0
    while front < min(len(sizes), len(wanted)) and sizes[front] == wanted[front]:
        front += 1
    back = 0
    while back < min(len(sizes), len(wanted)) - front and sizes[-1 - back] == wanted[-1 - back]:
        back += 1
    if x.batch >= front and x.batch < len(sizes) - back:
        raise w.refuse(f"a reshape of {tuple(sizes)} to {tuple(shape)} mixes the rows of a batch")
    middle = sizes[front : len(sizes) - back], wanted[front : len(wanted) - back]
    if not middle[0] and not middle[1]:
        return x
    changed = list(range(front, len(sizes) - back))
    dims = [size for size in middle[0] if isinstance(size, Dim)]
    inner = x.inner
    if dims and not set(middle[1]) & set(dims):
        w.arrange(Tensor(x.value, x.axes), [*changed[1:], changed[0], *[i for i in inner if i not in changed]])
        raise w.refuse("a reshape over the time needs the number of steps in advance")
    # stored with the axes that change side by side, in PyTorch's order
    others = [i for i in inner if i not in changed and x.axes[i] is not None]
    if any(isinstance(x.size(i), Dim) for i in others):
        others.sort(key=lambda i: not isinstance(x.size(i), Dim))
        order = others + changed
    else:
        order = [i for i in others if i < front] + changed + [i for i in others if i >= front]
    value = w.arrange(x, order)
    begin = order.index(changed[0]) if changed else sum(i < front for i in others)
    if not changed:
        order = [*order[:begin], *order[begin:]]
    new = [x.size(i) for i in order[:begin]] + list(middle[1]) + [x.size(i) for i in order[begin + len(changed) :]]
    text = ",".join("time" if isinstance(size, Dim) else str(size) for size in new)
    # a time alone has an axis of size 1 behind it
    value = w.add_layer("reshape", value, options={"shape": "time,1" if text == "time" else text or "1"})
    places: dict[int, int] = {}
    for i, axis in enumerate(order[:begin]):
        places[axis if axis < front else axis + len(wanted) - len(sizes)] = i
    for i in range(len(middle[1])):
        places[front + i] = begin + i
    for i, axis in enumerate(order[begin + len(changed) :]):
        places[axis if axis < front else axis + len(wanted) - len(sizes)] = begin + len(middle[1]) + i
    batch = x.batch if x.batch < front else x.batch + len(wanted) - len(sizes)
    axes = tuple(BATCH if i == batch else places.get(i) for i in range(len(wanted)))
    return Tensor(value, axes)


def _filled(w: Wiring, sizes: Sequence[object], shape: Sequence[object]) -> list[object]:
    """The shape wanted, -1 replaced by what is left over."""
    shape = list(shape)
    if any(not (isinstance(size, (int, Dim)) and not isinstance(size, bool)) for size in shape):
        raise w.refuse(f"a shape expected whole numbers, found {shape}")
    if shape.count(-1) > 1:
        raise w.refuse(f"several -1 in the shape {shape}")
    left = [size for size in sizes if isinstance(size, Dim)]
    for size in shape:
        if isinstance(size, Dim):
            if size not in left:
                raise w.refuse(f"a reshape of {tuple(sizes)} to {tuple(shape)}")
            left.remove(size)
    have = math.prod(size for size in sizes if not isinstance(size, Dim))
    known = math.prod(size for size in shape if not isinstance(size, Dim) and size != -1)
    if -1 in shape:
        if len(left) > 1 or not known or have % known or (left and have != known):
            if left and left[0] != Dim("batch"):
                from cylstm.graph.graph import StaticTimeNeeded

                raise StaticTimeNeeded(
                    f"layer {w.name!r}: a reshape over the time needs the number of steps in advance"
                )
            raise w.refuse(f"a reshape of {tuple(sizes)} to {tuple(shape)} mixes the rows of a batch")
        shape[shape.index(-1)] = left[0] if left else have // known
    elif left or have != known:
        raise w.refuse(f"a reshape of {tuple(sizes)} to {tuple(shape)}")
    return shape


#: class of torch.nn -> function of (wiring, module, arguments of the call)
MODULES: dict[str, Callable[..., object]] = {
    "Linear": lambda w, m, x: linear(w, x, m.weight, m.bias),
    "Embedding": lambda w, m, x: embedding(w, x, m.weight, m.max_norm),
    "LSTM": lambda w, m, input, hx=None: recurrent(w, m, input, hx),
    "GRU": lambda w, m, input, hx=None: recurrent(w, m, input, hx),
    "RNN": lambda w, m, input, hx=None: recurrent(w, m, input, hx),
    "LSTMCell": lambda w, m, input, hx=None: cell(w, m, input, hx),
    "GRUCell": lambda w, m, input, hx=None: cell(w, m, input, hx),
    "RNNCell": lambda w, m, input, hx=None: cell(w, m, input, hx),
    "MultiheadAttention": multihead_attention,
    "Conv1d": lambda w, m, x: conv1d(
        w, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups, padding_mode=m.padding_mode
    ),
    "MaxPool1d": lambda w, m, x: _max_pool(w, m, x),
    "AvgPool1d": lambda w, m, x: pool1d(
        w, x, "average", m.kernel_size, m.stride, m.padding, 1, m.ceil_mode, m.count_include_pad
    ),
    "AdaptiveAvgPool1d": lambda w, m, x: global_pool(w, x, "mean", m.output_size),
    "AdaptiveMaxPool1d": lambda w, m, x: global_pool(w, x, "max", m.output_size),
    "Upsample": lambda w, m, x: upsample(w, x, m.size, m.scale_factor, m.mode),
    "ConstantPad1d": lambda w, m, x: pad(w, x, m.padding, "constant", m.value),
    "ZeroPad1d": lambda w, m, x: pad(w, x, m.padding),
    "ReflectionPad1d": lambda w, m, x: pad(w, x, m.padding, "reflect"),
    "ReplicationPad1d": lambda w, m, x: pad(w, x, m.padding, "replicate"),
    "CircularPad1d": lambda w, m, x: pad(w, x, m.padding, "circular"),
    "BatchNorm1d": lambda w, m, x: batch_norm(w, x, m.running_mean, m.running_var, m.weight, m.bias, m.eps),
    "LayerNorm": lambda w, m, x: layer_norm(w, x, m.normalized_shape, m.weight, m.bias, m.eps),
    "RMSNorm": lambda w, m, x: layer_norm(w, x, m.normalized_shape, m.weight, None, rms_epsilon(w, m.eps), "rms"),
    "GroupNorm": lambda w, m, x: group_norm(w, x, m.num_groups, m.weight, m.bias, m.eps),
    "InstanceNorm1d": instance_norm,
    "Flatten": lambda w, m, x: flatten(w, x, m.start_dim, m.end_dim),
    "Unflatten": lambda w, m, x: unflatten(w, x, m.dim, m.unflattened_size),
    "Identity": lambda w, m, x: x,
    "ReLU": lambda w, m, x: activation(w, x, "relu"),
    "ReLU6": lambda w, m, x: activation(w, x, "clip", 0.0, 6.0),
    "Tanh": lambda w, m, x: activation(w, x, "tanh"),
    "Sigmoid": lambda w, m, x: activation(w, x, "sigmoid"),
    "SELU": lambda w, m, x: activation(w, x, "selu"),
    "ELU": lambda w, m, x: activation(w, x, "elu", m.alpha),
    "CELU": lambda w, m, x: celu(w, x, m.alpha),
    "SiLU": lambda w, m, x: activation(w, x, "silu"),
    "GELU": lambda w, m, x: gelu(w, x, m.approximate),
    "Mish": lambda w, m, x: mish(w, x),
    "Softplus": lambda w, m, x: softplus(w, x, m.beta, m.threshold),
    "Softsign": lambda w, m, x: activation(w, x, "softsign"),
    "LeakyReLU": lambda w, m, x: activation(w, x, "leaky_relu", m.negative_slope),
    "Hardtanh": lambda w, m, x: activation(w, x, "clip", m.min_val, m.max_val),
    "Hardsigmoid": lambda w, m, x: activation(w, x, "hard_sigmoid", 1 / 6, 0.5),
    "Hardswish": lambda w, m, x: hardswish(w, x),
    "LogSigmoid": lambda w, m, x: log_sigmoid(w, x),
    "Softshrink": lambda w, m, x: softshrink(w, x, m.lambd),
    "Tanhshrink": lambda w, m, x: tanhshrink(w, x),
    "PReLU": lambda w, m, x: prelu(w, x, m.weight),
    "GLU": lambda w, m, x: glu(w, x, m.dim),
    "Softmax": lambda w, m, x: softmax(w, x, m.dim),
    "LogSoftmax": lambda w, m, x: softmax(w, x, m.dim, log=True),
    "Softmin": lambda w, m, x: softmax(w, w.affine(w.tensor(x), -1.0, 0.0), m.dim),
} | dict.fromkeys(
    ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"), lambda w, m, x: x
)


def gelu(w: Wiring, x: object, approximate: str = "none") -> Tensor:
    return activation(w, x, {"none": "gelu", "tanh": "gelu_tanh"}[approximate])


def rms_epsilon(w: Wiring, eps: float | None) -> float:
    """PyTorch's None is the epsilon of the type."""
    return float(np.finfo(w.dtype).eps) if eps is None else eps


def pad(w: Wiring, x: object, padding: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Pairs of numbers (before, after), those of the last axis first."""
    x = w.tensor(x)
    if len(padding) % 2 or len(padding) > 2 * len(x.axes):
        raise w.refuse(f"expected pairs of padding, found {padding}")
    zero = mode == "constant" and not value
    if mode == "constant" and value:
        # as zeros around x - value, to which value is added
        x = w.affine(x, 1.0, -value)
    mode = {"constant": "zero", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}[mode]
    for i in range(len(padding) // 2):
        before, after = padding[2 * i : 2 * i + 2]
        if before or after:
            x = pad_axis(w, x, len(x.axes) - 1 - i, before, after, mode)
    return x if zero or mode != "zero" else w.affine(x, 1.0, value)


def unflatten(w: Wiring, x: object, dim: int, sizes: Sequence[int]) -> Tensor:
    x = w.tensor(x)
    axis = w.axis(x, dim)
    before = [x.size(i) for i in range(len(x.axes))]
    sizes = list(sizes)
    if -1 in sizes and isinstance(before[axis], int):
        sizes[sizes.index(-1)] = before[axis] // -math.prod(sizes)
    return reshape(w, x, [*before[:axis], *sizes, *before[axis + 1 :]])


def _max_pool(w: Wiring, m: Any, x: object) -> Tensor:
    if m.return_indices:
        raise w.refuse("return_indices is not supported")
    return pool1d(w, x, "max", m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)
