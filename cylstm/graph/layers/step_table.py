"""A table with a row for each step."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError
from cylstm.graph.layers._layer import Inputs, LayerKind, Options, Outputs, Weights, check_kind
from cylstm.graph.values import Option, Value


class StepTableLayer(LayerKind):
    """``y[t] = table[t]``: learned positional embeddings and stored positional encodings.

    Inputs: ``x`` (sequence), of which only the time is read. Weights: ``table`` (rows, size), a row for each step that
    a sequence may have; a longer one is an error before anything runs. Outputs: ``y`` (time, size), without mask.
    """

    name = "step_table"
    weights = ("table",)

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        x, table = inputs["x"], weights["table"]
        check_kind(where, x, ("sequence",))
        if table.ndim != 2 or not table.size:
            raise ShapeError(f"layer {where!r}, tensor 'table': expected shape (rows, size), found {table.shape}")
        if x.shape[0] is not None and x.shape[0] > table.shape[0]:
            raise ShapeError(f"layer {where!r}: expected at most {table.shape[0]} steps, found {x.shape[0]}")
        return {"y": Value("", "sequence", (x.shape[0], table.shape[1]), None, x.axis)}

    def streams(self, options: Mapping[str, Option]) -> str | None:
        return "its table has a row for each step and ends"

    def most_steps(self, weights: Weights) -> int | None:
        return int(weights["table"].shape[0])
