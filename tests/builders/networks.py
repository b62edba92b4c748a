"""Random networks for tests: weights all different, sizes odd."""

import numpy as np

import cylstm


def lstm_state_dict(rng, input_size, hidden_size, num_layers=1, bidirectional=False, proj_size=0, prefix="lstm."):
    """Tensors named and scaled as torch.nn.LSTM names and scales them."""
    bound = 1.0 / np.sqrt(hidden_size)
    output_size = proj_size or hidden_size
    tensors = {}
    for layer in range(num_layers):
        for suffix in ("", "_reverse") if bidirectional else ("",):
            size = input_size if layer == 0 else output_size * (2 if bidirectional else 1)
            shapes = {
                f"weight_ih_l{layer}{suffix}": (4 * hidden_size, size),
                f"weight_hh_l{layer}{suffix}": (4 * hidden_size, output_size),
                f"bias_ih_l{layer}{suffix}": (4 * hidden_size,),
                f"bias_hh_l{layer}{suffix}": (4 * hidden_size,),
            }
            if proj_size:
                shapes[f"weight_hr_l{layer}{suffix}"] = (proj_size, hidden_size)
            for name, shape in shapes.items():
                tensors[prefix + name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return tensors


def linear_state_dict(rng, input_size, output_size, prefix="fc."):
    """Tensors named and scaled as torch.nn.Linear names and scales them."""
    bound = 1.0 / np.sqrt(input_size)
    return {
        f"{prefix}weight": rng.uniform(-bound, bound, (output_size, input_size)).astype(np.float32),
        f"{prefix}bias": rng.uniform(-bound, bound, output_size).astype(np.float32),
    }


def random_states(rng, model, batch):
    """A non-zero state of a model."""
    return [
        tuple(rng.uniform(-0.9, 0.9, (batch, *shape)).astype(np.float32) for _, shape in parts)
        for _, parts in model.graph.states()
    ]


def lstm_model(rng, input_size, hidden_size, outputs=3, *, last=False, engine=None, dtype="float32", **options):
    """LSTM -> (Last) -> Linear."""
    directions = 2 if options.get("bidirectional") else 1
    features = (options.get("proj_size") or hidden_size) * directions
    tensors = lstm_state_dict(rng, input_size, hidden_size, **options)
    tensors |= linear_state_dict(rng, features, outputs)
    layers = [cylstm.LSTM("lstm"), *([cylstm.Last()] if last else []), cylstm.Linear("fc")]
    return cylstm.from_state_dict(tensors, layers, engine=engine, dtype=dtype)


def reloaded(model, folder):
    """The model saved and loaded in every way: unpacked, packed, mapped, and packed and then saved unpacked."""
    plain, packed, unpacked = (folder / f"{name}.cylstm" for name in ("plain", "packed", "unpacked"))
    model.save(plain)
    model.save(packed, packed=True)
    cylstm.load(packed).save(unpacked)
    return [cylstm.load(plain), cylstm.load(packed), cylstm.load(packed, mmap=True), cylstm.load(unpacked)]


def bits(array):
    """The bits of a float32 array, for comparisons that tell apart what == does not."""
    return np.ascontiguousarray(array, np.float32).view(np.uint32)


def same(a, b):
    """Whether two float32 arrays have the same bits."""
    return np.array_equal(bits(a), bits(b))


def same_states(a, b):
    """Whether all arrays of two states have the same bits."""
    return all(same(x, y) for left, right in zip(a, b) for x, y in zip(left, right))
