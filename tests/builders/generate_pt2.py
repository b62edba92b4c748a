"""Writes tests/data/pt2: two networks as several versions of PyTorch export and save them, and what they compute.

`Net` has what a program may have, and mixes the rows of a batch; `Small` is a network that CyLSTM computes.

Run once for each version with it installed, from any folder but with a path that may be seen, because the files have
the paths of PyTorch's sources: ``python -m tests.builders.generate_pt2``. Seeded; the weights are the same in each.
"""

import gzip
import io
import linecache

import numpy as np
import torch

from tests import DATA

FOLDER = DATA / "pt2"
# Run from its text, so that the files name net.py and no folder.
SOURCE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)
        self.fc = nn.Linear(4, 6)
        self.register_buffer("scale", torch.tensor([0.5, 1.5, -2.0]))
        self.register_buffer("offset", torch.tensor([0.25, -0.75, 1.25], dtype=torch.bfloat16), persistent=False)
        self.gain = nn.Parameter(torch.arange(6.0).reshape(2, 3).half().t()[:, 1])

    def forward(self, x, states=None, top=2):
        y, (h, c) = self.lstm(x, states)
        a, b = self.fc(y).chunk(2, dim=-1)
        y = torch.tanh(a) * b * self.scale * torch.tensor([1.0, 2.0, 3.0]) + self.offset.float()
        hidden = y.masked_fill(y < 0, float("-inf"))
        pooled = y.reshape(-1, y.shape[2]).sum(dim=0) * self.gain.float()
        return {"y": y, "rest": (hidden, None, [h[-1], pooled])}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)
        self.fc = nn.Linear(4, 6)
        self.register_buffer("scale", torch.tensor([0.5, 1.5, -2.0]))

    def forward(self, x):
        y, _ = self.lstm(x)
        a, b = self.fc(y).chunk(2, dim=-1)
        return torch.tanh(a) * b * self.scale
"""


def network(name):
    """A network with its weights, and an input."""
    names = {"nn": torch.nn, "torch": torch, "__name__": "net"}
    exec(compile(SOURCE, "net.py", "exec"), names)
    linecache.cache["net.py"] = (len(SOURCE), None, SOURCE.splitlines(True), "net.py")
    net = names[name]().eval()
    rng = np.random.default_rng(3)
    with torch.no_grad():
        for _, weight in sorted(net.named_parameters()):
            if weight.dtype == torch.float32:
                weight.copy_(torch.from_numpy(rng.uniform(-0.6, 0.6, weight.shape).astype(np.float32)))
    return net, torch.from_numpy(rng.standard_normal((3, 5, 3)).astype(np.float32))


def write(name, net, x, keywords):
    dynamic = {"x": {0: torch.export.Dim("batch")}} | dict.fromkeys(keywords)
    program = torch.export.export(net, (x,), keywords, dynamic_shapes=dynamic)
    file = io.BytesIO()
    torch.export.save(program, file)
    version = torch.__version__.partition("+")[0]
    (FOLDER / f"{name}{version}.pt2.gz").write_bytes(gzip.compress(file.getvalue(), mtime=0))


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    net, x = network("Net")
    write("", net, x, {"states": None, "top": 2})
    with torch.no_grad():
        found = net(x)
    hidden, _, (last, pooled) = found["rest"]
    outputs = {"y": found["y"], "hidden": hidden, "last": last, "pooled": pooled}
    constants = {**net.state_dict(), "offset": net.offset.float(), "lifted_tensor_0": torch.tensor([1.0, 2.0, 3.0])}
    arrays = {f"weights/{name}": weight.float().numpy() for name, weight in constants.items()}
    arrays |= {f"outputs/{name}": value.numpy() for name, value in outputs.items()}
    np.savez_compressed(FOLDER / "expected.npz", x=x.numpy(), **arrays)
    net, x = network("Small")
    write("small-", net, x, {})
    with torch.no_grad():
        np.savez_compressed(FOLDER / "small-expected.npz", x=x.numpy(), y=net(x).numpy())


if __name__ == "__main__":
    main()
