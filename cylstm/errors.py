"""The exceptions of CyLSTM. Each says what was wrong, where, what was expected and what was found."""


class CylstmError(Exception):
    """Base of every exception raised by CyLSTM on purpose."""


class FormatError(CylstmError, ValueError):
    """A file or a mapping of tensors is damaged, incomplete or of another kind than expected."""


class ShapeError(CylstmError, ValueError):
    """An array or a state has another shape, rank, size or dtype than the model needs."""


class ArgumentError(ShapeError):
    """An argument that is no array, such as a flag, a name or a number of threads, has a value that it cannot have."""

    # a `ShapeError` for one release, because that is what was raised; then a `CylstmError` and `ValueError`


class MetadataArgumentError(ArgumentError, FormatError):
    """An `ArgumentError` about metadata; for one release a `FormatError` too, as above."""


class UnsupportedError(CylstmError, NotImplementedError):
    """A layer, an option or a file type that CyLSTM knows of and does not compute."""


class ChoiceArgumentError(ArgumentError, UnsupportedError):
    """An `ArgumentError` about an engine or a dtype; for one release an `UnsupportedError` too, as above."""


class CheckError(CylstmError, ValueError):
    """A model gives other numbers than the framework it comes from, or other bits than where it was saved."""


class StreamBusyError(CylstmError, RuntimeError):
    """Two threads entered one stream at the same time; give each its own stream."""


class BlasNotFoundError(CylstmError, ImportError):
    """``engine="blas"`` found no usable BLAS; the message lists what was tried."""


class CylstmWarning(UserWarning):
    """What a network computes here may not be what its user expects; the message says why and what to do."""
