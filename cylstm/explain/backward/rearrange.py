"""Layers that move numbers or leave them as they are: gradients and relevance go where the numbers came from."""

from __future__ import annotations

import numpy as np

from cylstm.explain.backward.rule import Arrays, Call, Rule


class DropoutRule(Rule):
    """``y = x``."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        return {"x": out["y"]}


class ConstantRule(Rule):
    """It reads nothing."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        return {}


class LastRule(Rule):
    """The last step, or the last one that counts."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        found = np.zeros_like(call.x)
        mask = call.masks.get("mask")
        if mask is None:
            found[:, -1] = out["y"]
        else:
            last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
            rows = np.flatnonzero(mask.any(axis=1))
            found[rows, last[rows]] = out["y"][rows]
        return {"x": found}


class MaskingRule(Rule):
    """Steps that do not count are 0."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        mask = call.masks["own"]
        return {"x": np.where(mask.reshape(*mask.shape, *[1] * (call.x.ndim - 2)), out["y"], 0.0)}


class ReverseRule(Rule):
    """``y[t] = x[time - 1 - t]``."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        return {"x": out["y"][:, ::-1]}


class ReshapeRule(Rule):
    """The same numbers in another shape."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        return {"x": out["y"].reshape(call.x.shape)}


class PermuteRule(Rule):
    """Axis i of y is axis ``order[i]`` of x."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        order = [0, *(1 + int(axis) for axis in str(call.options["order"]))]
        return {"x": out["y"].transpose(np.argsort(order))}


class SliceRule(Rule):
    """A part of one axis."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        axis = 1 + call.count("axis")
        size, start, step = call.x.shape[axis], call.count("start"), call.count("step")
        start += size if start < 0 else 0
        places = start + step * np.arange(out["y"].shape[axis])
        found = np.zeros_like(call.x)
        found[(slice(None),) * axis + (places,)] = out["y"]
        return {"x": found}


class TakeRule(Rule):
    """Constant places of one axis, some perhaps repeatedly."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        axis = 1 + call.count("axis")
        found = np.zeros_like(call.x)
        moved, of_y = np.moveaxis(found, axis, 0), np.moveaxis(out["y"], axis, 0)
        for place, number in zip(call.weights["indices"].astype(np.intp), of_y):
            moved[place] += number
        return {"x": found}


class RepeatVectorRule(Rule):
    """A vector as every step."""

    def gradient(self, call: Call, out: Arrays) -> Arrays:
        return {"x": out["y"].sum(axis=1)}
