"""What stands in the ``layers=[...]`` of a state dict."""

from __future__ import annotations


class Layer:
    """A layer of a state dict: plain data, compared and shown by its parameters.

    (A hand-written base, because creating a dataclass costs 0.4 ms each at every import.)
    """

    def __init__(self, **parameters: object) -> None:
        self.__dict__.update(parameters)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed; make another one")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"
