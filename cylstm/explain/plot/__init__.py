"""Pictures of what a network does inside, drawn with matplotlib: ``pip install 'cylstm[plot]'``.

Each function draws into the Axes that it is given as ``ax``, or makes a figure of its own, and returns the Axes, or a
list of them. None of them shows a figure or changes matplotlib's settings. Colours are of perceptually uniform maps
whose lightness alone tells the values, so that they read the same in grey and to the colour-blind; signs are told by
hatching as well. Names from files are drawn as plain text.
"""

from cylstm.explain.plot.maps import gates, occlusion
from cylstm.explain.plot.past import contributions
from cylstm.explain.plot.time import series, states
from cylstm.explain.plot.use import saturation

__all__ = ["contributions", "gates", "occlusion", "saturation", "series", "states"]
