"""The operations of PyTorch, as functions of the network, its tensors and the arguments of the call."""
