"""PyTorch checkpoints and live modules."""
