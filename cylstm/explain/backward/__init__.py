"""How what is known of a layer's results goes back to what it read: one rule for each kind of layer.

A rule has two ways: the gradient, and relevance (Bach et al., 2015). All is NumPy in float64, from what a trace of the
prediction shows. A kind that is not in `RULES` is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.explain.backward.activations import ActivationRule, FunctionRule, GluRule, PreluRule, SoftmaxRule
from cylstm.explain.backward.dense import DenseRule
from cylstm.explain.backward.merge import MergeRule
from cylstm.explain.backward.normalisation import BatchNormRule, LayerNormRule
from cylstm.explain.backward.rearrange import (
    ConstantRule,
    DropoutRule,
    LastRule,
    MaskingRule,
    PermuteRule,
    RepeatVectorRule,
    ReshapeRule,
    ReverseRule,
    SliceRule,
    TakeRule,
)
from cylstm.explain.backward.recurrent import GruRule, LstmRule, RnnRule
from cylstm.explain.backward.reduce import ReduceRule
from cylstm.explain.backward.rule import Call, Relevance, Rule

__all__ = ["RULES", "Call", "Relevance", "Rule"]

#: kind -> its rule
RULES: Mapping[str, Rule] = {
    "activation": ActivationRule(),
    "batch_norm": BatchNormRule(),
    "constant": ConstantRule(),
    "dense": DenseRule(),
    "dropout": DropoutRule(),
    "function": FunctionRule(),
    "glu": GluRule(),
    "gru": GruRule(),
    "last": LastRule(),
    "layer_norm": LayerNormRule(),
    "lstm": LstmRule(),
    "masking": MaskingRule(),
    "merge": MergeRule(),
    "permute": PermuteRule(),
    "prelu": PreluRule(),
    "reduce": ReduceRule(),
    "repeat_vector": RepeatVectorRule(),
    "reshape": ReshapeRule(),
    "reverse": ReverseRule(),
    "rnn": RnnRule(),
    "slice": SliceRule(),
    "softmax": SoftmaxRule(),
    "take": TakeRule(),
}
