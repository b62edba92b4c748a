"""What a prediction rests on: read from the traces of the engine that predicts.

`memory` says how much of each past step is left in a recurrent layer's state, and what it contributed to it; `units`
which units are of no use, which `Model.prune` takes out.
"""

from cylstm.explain.memory import Memory, memory
from cylstm.explain.prune import LayerPruning, Pruning
from cylstm.explain.units import LayerUnits, UnitReport, units

__all__ = ["LayerPruning", "LayerUnits", "Memory", "Pruning", "UnitReport", "memory", "units"]
