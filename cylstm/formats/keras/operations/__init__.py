"""Functions on tensors between the layers of a Keras model, as tables of names on top of the operations of programs."""
