"""Several values into one."""

from __future__ import annotations

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.layers._axes import find_axis, kind_of
from cylstm.graph.layers._layer import DATA, Inputs, LayerKind, Options, Outputs, Weights, check_kind, check_roles
from cylstm.graph.values import Kind, StaticTimeNeeded, Value

MERGE_MODES = ("concat", "sum", "mul", "ave", "sub", "max", "min", "div")
#: the modes of exactly two inputs
PAIR_MODES = ("pow", "mod", "fmod", "floor_div", "atan2", "hypot", "copysign", "equal", "not_equal", "less",
              "less_equal", "greater", "greater_equal", "and", "or", "xor")  # fmt: skip
#: the modes in which a Keras Bidirectional joins its directions
DIRECTION_MERGES = MERGE_MODES[:4]

_OF_TWO_INPUTS = (
    ", or their times come from different inputs: then the shapes of these have to say the number of steps, such as "
    "(20, 3)"
)


class MergeLayer(LayerKind):
    """``y = merge(x, x1, x2, ...)``: side by side along `axis`, or element by element in the order of the inputs.

    Inputs: ``x``, ``x1``, ... sequences, vectors or states. Options: ``mode``, one of `MERGE_MODES`, or of `PAIR_MODES`
    for exactly two inputs; ``axis`` of "concat", stored as a negative number, counted from the last one (-1);
    ``positions``, filled in.

    Element by element, shapes without batch are matched from the last axis on, as NumPy does; an axis of size 1, or one
    that is not there, is repeated. (Keras's merge layers with inputs of different rank do the same.) Joining along a
    time needs the steps of all in advance. Values whose times come from different inputs do not mix.

    Of two inputs: "mod" has the sign of x1, as Python's ``%``, and "fmod" that of x, as C's function; "floor_div"
    rounds x / x1 down. "pow", "atan2", "hypot" and "copysign" take zeros, infinities and NaN as C's functions do.
    Comparisons, "and", "or" and "xor" give 1 or 0; what is not 0 is true.
    """

    name = "merge"
    defaults = {"mode": "concat", "axis": -1, "positions": 1}

    def check_roles(self, where: str, inputs: Inputs, weights: Weights) -> None:
        check_roles(where, inputs, ["x", *(f"x{i}" for i in range(1, len(inputs)))], (), "inputs")
        check_roles(where, weights, (), (), "weights")

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        mode = options["mode"]
        if mode not in MERGE_MODES and mode not in PAIR_MODES:
            raise UnsupportedError(
                f"layer {where!r}: merge mode expected one of {', '.join(MERGE_MODES + PAIR_MODES)}, found {mode!r}"
            )
        if mode in PAIR_MODES and len(inputs) != 2:
            raise ShapeError(f"layer {where!r}: merge mode {mode!r} takes two inputs, found {len(inputs)}")
        values = [inputs["x"], *(inputs[f"x{i}"] for i in range(1, len(inputs)))]
        for value in values:
            check_kind(where, value, DATA)
        options["positions"] = values[0].size // values[0].features
        return {"y": self.concat(where, values, options) if mode == "concat" else broadcast(where, values)}

    @staticmethod
    def concat(where: str, values: list[Value], options: Options) -> Value:
        rank = len(values[0].shape)
        axis = options["axis"] = find_axis(where, values[0], options["axis"]) - rank
        shape, total = list(values[0].shape), 0
        for value in values:
            others = list(value.shape)
            if len(others) == rank and value.has_time == values[0].has_time:
                others[axis] = shape[axis]
            if others != shape or (value.axis != values[0].axis and shape[axis] is not None):
                raise ShapeError(
                    f"layer {where!r}: expected equal shapes but for axis {axis}, "
                    f"found {values[0].shape} of {values[0].name!r} and {value.shape} of {value.name!r}"
                )
            size = value.shape[axis]
            if size is None:
                raise StaticTimeNeeded(
                    f"layer {where!r}: joining along the time needs the number of steps in advance, "
                    f"found {value.shape} of {value.name!r}"
                )
            total += size
        shape[axis] = total
        kind: Kind = "sequence" if values[0].has_time else "vector"
        mask = values[0].mask if axis != -rank or not values[0].has_time else None
        return Value("", kind, tuple(shape), mask, values[0].axis)


def broadcast(where: str, values: list[Value]) -> Value:
    """The value of the shape to which all others are repeated. Raises `ShapeError`."""
    rank = max(len(value.shape) for value in values)
    first = next((v for v in values if len(v.shape) == rank), values[0])
    shape: list[int | None] = [1] * rank
    time_from = first
    for value in values:
        padded = (1,) * (rank - len(value.shape)) + value.shape
        for i, size in enumerate(padded):
            if size == 1 and len(values) > 1:
                continue
            if size is None and i > 0:
                raise StaticTimeNeeded(
                    f"layer {where!r}: the time of {value.name!r} would be axis {i} of the result, which needs the "
                    "number of steps in advance"
                )
            if shape[i] == 1:
                shape[i] = size
                time_from = value if i == 0 else time_from
            elif shape[i] != size or (i == 0 and value.axis != time_from.axis):
                raise ShapeError(
                    f"layer {where!r}: shapes {first.shape} of {first.name!r} and {value.shape} of {value.name!r} "
                    "do not match" + (_OF_TWO_INPUTS if i == 0 and size is None else "")
                )
    has_time = any(value.has_time and len(value.shape) == rank for value in values) or None in shape
    kind: Kind = "sequence" if has_time else "vector"
    if not has_time and rank > 1 and any(value.has_time for value in values):
        kind = kind_of(tuple(shape))
    masked = next((v.mask for v in values if v.mask is not None and v.shape[:1] == tuple(shape[:1])), None)
    return Value("", kind, tuple(shape), masked if has_time else None, time_from.axis if shape[0] is None else None)
