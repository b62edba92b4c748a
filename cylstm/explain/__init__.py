"""What a prediction rests on: read from the traces of the engine that predicts, or found by predicting again.

`memory` says how much of each past step is left in a recurrent layer's state, and what it contributed to it; `units`
which units are of no use, which `Model.prune` takes out. `occlusion` and `shapley` say how much each feature, time or
both did to a prediction, and `gradients`, `integrated_gradients` and `lrp` how it depends on each number of the
input. `readouts` is what the head of a network reads out of each recurrent layer.
`report` writes a page of what a network does with an input, and `cylstm.explain.plot` draws it.
"""

from cylstm.explain.attribution import Attribution
from cylstm.explain.gradients import InputGradients, gradients, integrated_gradients, lrp
from cylstm.explain.groups import Background
from cylstm.explain.memory import Memory, memory
from cylstm.explain.occlusion import occlusion
from cylstm.explain.prune import LayerPruning, Pruning
from cylstm.explain.readouts import readouts
from cylstm.explain.report import report
from cylstm.explain.shapley import shapley
from cylstm.explain.units import LayerUnits, UnitReport, units

__all__ = [
    "Attribution",
    "Background",
    "InputGradients",
    "LayerPruning",
    "LayerUnits",
    "Memory",
    "Pruning",
    "UnitReport",
    "gradients",
    "integrated_gradients",
    "lrp",
    "memory",
    "occlusion",
    "readouts",
    "report",
    "shapley",
    "units",
]
