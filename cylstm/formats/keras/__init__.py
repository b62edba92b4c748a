"""Keras models, live and from files."""
