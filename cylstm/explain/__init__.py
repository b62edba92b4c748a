"""What a prediction rests on: read from the traces of the engine that predicts.

`memory` says how much of each past step is left in a recurrent layer's state, and what it contributed to it; `units`
which units are of no use.
"""

from cylstm.explain.memory import Memory, memory
from cylstm.explain.units import LayerUnits, UnitReport, units

__all__ = ["LayerUnits", "Memory", "UnitReport", "memory", "units"]
