"""Readers of containers that may be damaged or hostile."""
