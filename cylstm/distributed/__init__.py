"""Predictions on many machines, with engines that exist: a module for each of them, which needs its extra.

`cylstm.distributed.dask`, `cylstm.distributed.ray` and `cylstm.distributed.spark`; none is imported before it is used.
"""
