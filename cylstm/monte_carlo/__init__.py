"""Predictions with the dropout of training left on, many times: Monte Carlo dropout (Gal and Ghahramani, 2016).

- `rates` says which layers draw what, by the graph and the user.
- `plan` makes of the network one with an input for each thing that is drawn.
- `draws` has the random numbers, which depend on the seed, the layer, the sample and the place in it alone.
- `predict` runs all samples as rows of one batch, and `result` holds what comes of it.
"""

from cylstm.monte_carlo.result import MonteCarlo

__all__ = ["MonteCarlo"]
