"""Give the committed networks weights of fewer bytes, and score what that costs: ``python quantize.py --csv path``.

Each network once as it is, and once for inputs in raw units: the scaling of the inputs is folded into the weights, so
that pressure comes in hectopascals and its column of weights is far smaller than the wind's. The forecasts are scored
on 2014, as in the demo. Without a path the bundled SYNTHETIC sample is read, on which errors say nothing.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from recipe import FOLDER
from series import (
    SAMPLE,
    SCORED,
    TEST_YEAR,
    Scaling,
    Series,
    bootstrap_difference,
    find_csv,
    future,
    read_csv,
    rmse,
    targets_in,
)

import cylstm

#: what is applied to all matrices alike, although they are so small that `quantize` would leave most as they are
TYPES = ("float16", "bfloat16", "int8a16", "int8a8")
#: what `quantize` is asked for
BY_RULES = ("float16", "bfloat16", "int8")


def without_scaling(tensors: dict[str, np.ndarray], scaling: Scaling) -> dict[str, np.ndarray]:
    """The weights of the network that reads inputs as they are (bent, where the scaling bends them).

    W ((x - mean) / std) + b = (W / std) x + (b - W (mean / std)), in float64, rounded once.
    """
    mean, std = np.array(scaling.mean), np.array(scaling.std)
    weight = np.asarray(tensors["lstm.weight_ih_l0"], np.float64)
    bias = np.asarray(tensors["lstm.bias_ih_l0"], np.float64)
    return tensors | {
        "lstm.weight_ih_l0": (weight / std).astype(np.float32),
        "lstm.bias_ih_l0": (bias - weight @ (mean / std)).astype(np.float32),
    }


def load(tensors: dict[str, np.ndarray], weights: str | None = None) -> cylstm.Model:
    """The network of these weights."""
    return cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Linear("fc")], weights=weights)


def state_dict(model: cylstm.Model) -> dict[str, np.ndarray]:
    """The weights of a committed network by PyTorch's names."""
    tensors = model.graph.tensors
    found = {f"lstm.{name}_l0": tensors[f"lstm.l0.{name}"] for name in ("weight_ih", "weight_hh")}
    found |= {"lstm.bias_ih_l0": tensors["lstm.l0.bias"], "lstm.bias_hh_l0": np.zeros_like(tensors["lstm.l0.bias"])}
    return found | {f"fc.{name}": tensors[f"fc.{name}"] for name in ("weight", "bias")}


def quantized(tensors: dict[str, np.ndarray]) -> dict[str, cylstm.Model]:
    """How it was made -> the network with weights of fewer bytes."""
    models = {f"all {weights}": load(tensors, weights) for weights in TYPES}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cylstm.CylstmWarning)  # that networks as small as these do not gain
        return models | {f'quantize("{weights}")': load(tensors).quantize(weights) for weights in BY_RULES}


def quantize_table(series: Series, kind: str) -> str:
    """The errors of one network with weights of each type, for scaled and for raw inputs."""
    committed = cylstm.load(FOLDER / f"{kind}.cylstm")
    scaling = Scaling.from_json(committed.metadata["scaling"])
    last_known = series.inputs[:, 0]
    truth = np.where(targets_in(series, [TEST_YEAR]), future(series), np.nan)
    plain = Scaling(scaling.features, scaling.bend, (0.0,) * len(scaling.mean), (1.0,) * len(scaling.std), ())
    networks = {
        "scaled": (state_dict(committed), scaling.scale(series.select(kind))),
        "raw": (without_scaling(state_dict(committed), scaling), plain.scale(series.select(kind))),
    }
    lines = [
        f"{kind + ', inputs':<21} {'weights':<20} "
        + "  ".join(f"{f'RMSE {ahead}, change, 95%':<38}" for ahead in SCORED).rstrip()
    ]
    for units, (tensors, inputs) in networks.items():
        full = scaling.forecast(load(tensors).predict(inputs), last_known)
        scores = [f"{rmse(full[:, leads], truth[:, leads]):.3f}" for leads in SCORED.values()]
        lines.append(f"{units:<21} {'float32':<20} " + "  ".join(f"{score:<38}" for score in scores).rstrip())
        for name, model in quantized(tensors).items():
            forecast = scaling.forecast(model.predict(inputs), last_known)
            scores = []
            for leads in SCORED.values():
                before, after = (rmse(one[:, leads], truth[:, leads]) for one in (full, forecast))
                low, high = bootstrap_difference(forecast[:, leads], full[:, leads], truth[:, leads])
                scores.append(f"{after:.3f} {after / before - 1:+.3%} [{low:+.3f}, {high:+.3f}]")
            lines.append(f"{units:<21} {name:<20} " + "  ".join(f"{score:<38}" for score in scores).rstrip())
    return "\n".join(lines)


def main() -> None:
    """The tables of both networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", help="the hourly series; default: the variable CSV, the real series, the sample")
    path = find_csv(parser.parse_args().csv).resolve()
    if path == SAMPLE:
        print("SYNTHETIC sample: errors say nothing about forecasts of real air")
    series = read_csv(path)
    for kind in ("univariate", "multivariate"):
        print(quantize_table(series, kind), end="\n\n")


if __name__ == "__main__":
    main()
