"""State dicts: tensors whose wiring the user says."""
