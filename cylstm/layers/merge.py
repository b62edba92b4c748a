"""Several values of one length into one."""

from __future__ import annotations

from ..errors import ShapeError, UnsupportedError
from ..graph import Value
from ._op import Op, check_kind, check_roles

MERGE_MODES = ("concat", "sum", "mul", "ave")


class MergeOp(Op):
    """``y = merge(x, x1, x2, ...)``; with mode "concat" along the last axis, else element by element.

    Inputs: ``x``, ``x1``, ... all sequences, or all vectors or states. Options: ``mode``, one of
    `MERGE_MODES`; ``positions``, the spatial positions of a step, filled in from x.
    """

    name = "merge"
    defaults = {"mode": "concat", "positions": 1}

    def infer(self, where, inputs, weights, options):
        roles = ["x", *(f"x{i}" for i in range(1, len(inputs)))]
        check_roles(where, inputs, roles, (), "inputs")
        check_roles(where, weights, (), (), "weights")
        if options["mode"] not in MERGE_MODES:
            raise UnsupportedError(
                f"layer {where!r}: merge mode expected one of {', '.join(MERGE_MODES)}, found {options['mode']!r}"
            )
        values = [inputs[role] for role in roles]
        kinds = ("sequence",) if values[0].kind == "sequence" else ("vector", "state")
        for value in values:
            check_kind(where, value, kinds)
            if value.shape[:-1] != values[0].shape[:-1]:
                raise ShapeError(
                    f"layer {where!r}: expected equal shapes but for the last axis, "
                    f"found {values[0].shape} and {value.shape}"
                )
        sizes = [value.features for value in values]
        if options["mode"] == "concat":
            size = sum(sizes)
        elif len(set(sizes)) == 1:
            size = sizes[0]
        else:
            raise ShapeError(f"layer {where!r}: merge mode {options['mode']!r} expected equal sizes, found {sizes}")
        options["positions"] = values[0].size // values[0].features
        kind = "sequence" if values[0].kind == "sequence" else "vector"
        return {"y": Value("", kind, (*values[0].shape[:-1], size), values[0].mask)}
