"""Tensor programs: what operations between layers mean, whatever framework wrote them."""
