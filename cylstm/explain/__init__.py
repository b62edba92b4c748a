"""What a prediction rests on: read from the traces of the engine that predicts.

`memory` says how much of each past step is left in a recurrent layer's state, and what it contributed to it.
"""

from cylstm.explain.memory import Memory, memory

__all__ = ["Memory", "memory"]
