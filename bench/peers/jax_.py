"""JAX: the LSTM as a compiled function; a sequence is a scan."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np

from ._peer import Cell, Peer

# A call computes in the calling thread and returns when it is done: for one step at a time the quickest way.
jax.config.update("jax_cpu_enable_async_dispatch", False)


class Jax(Peer):
    """One compiled call per step, its states given away (donated), and one per sequence from zero states.

    The input half of a layer's whole sequence is one product before the scan.
    """

    name = "jax"
    threads_of_process: int | None = None

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        set_threads(threads)
        layers = [tuple(jnp.asarray(a) for a in _transposed(cell, k)) for k in range(cell.layers)]

        def step(x, states):
            new = []
            for (weight_ih, weight_hh, bias), (h, c) in zip(layers, states):
                x, c = _cell(x @ weight_ih + bias + h @ weight_hh, c)
                new.append((x, c))
            return x, new

        def sequence(x):  # (time, batch, input)
            zeros = jnp.zeros((batch, cell.hidden_size), jnp.float32)
            for weight_ih, weight_hh, bias in layers:

                def body(state, projected, weight_hh=weight_hh):
                    h, c = _cell(projected + state[0] @ weight_hh, state[1])
                    return (h, c), h

                _, x = jax.lax.scan(body, (zeros, zeros), x @ weight_ih + bias)
            return x

        self.state_shape = (batch, cell.hidden_size)
        self.layer_count = cell.layers
        self.run_step = jax.jit(step, donate_argnums=1)
        self.run_sequence = jax.jit(sequence)
        self.reset()

    @classmethod
    def version(cls) -> str:
        return jax.__version__

    def reset(self) -> None:
        self.states = [
            tuple(jnp.zeros(self.state_shape, jnp.float32) for _ in range(2)) for _ in range(self.layer_count)
        ]

    def step_input(self, x: np.ndarray) -> jax.Array:
        return jnp.asarray(x)

    def sequence_input(self, x: np.ndarray) -> jax.Array:
        return jnp.asarray(x.transpose(1, 0, 2))

    def step(self, x: jax.Array) -> jax.Array:
        y, self.states = self.run_step(x, self.states)
        return y.block_until_ready()

    def sequence(self, x: jax.Array) -> jax.Array:
        return self.run_sequence(x).block_until_ready()

    def result(self, y: jax.Array) -> np.ndarray:
        y = np.array(y)
        return y if y.ndim == 2 else y.transpose(1, 0, 2)


def set_threads(threads: int) -> None:
    """Tell XLA, which reads it once: when the process first computes."""
    if Jax.threads_of_process not in (None, threads):
        raise NotImplementedError(f"JAX's threads are set once in a process, here to {Jax.threads_of_process}")
    Jax.threads_of_process = threads
    os.environ["PJRT_NPROC"] = str(threads)
    eigen = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    if eigen not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {eigen}"


def _cell(gates, c):
    """h and c from the gates i, f, g, o (batch, 4*hidden) before their activations."""
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _transposed(cell: Cell, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weight_ih, weight_hh, bias_ih, bias_hh = cell.layer(k)
    return np.ascontiguousarray(weight_ih.T), np.ascontiguousarray(weight_hh.T), bias_ih + bias_hh


PEERS = (Jax,)
