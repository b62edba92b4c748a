"""Reading and writing files: a module or a package for each format, listed in ``registry.py``.

``untrusted/`` has the readers of containers (zip, JSON, pickle, HDF5, safetensors) that check a file before they trust
it. Formats know nothing of the model and the engine.
"""
