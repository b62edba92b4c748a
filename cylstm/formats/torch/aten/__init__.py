"""ATen, the operations of PyTorch's exported programs: what each becomes, and how a program becomes a graph."""
