"""A call of an op: the function and the arguments that the model gives it. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

ArgumentPlace = int | str
"""Where an argument stands in a call: its position, or its keyword."""

KEYWORD_ONLY = None
"""The position of a parameter that can only be given by name."""

NUMPY_NAMES = {"dim": "axis", "keepdim": "keepdims"}
"""NumPy's names of parameters, by which compiled functions of torch take them as well."""


class OpCall(NamedTuple):
    """The call `function(*args, **kwargs)`. A tuple, since one is made for each op of a run."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> Any:
        """What the call returns."""
        return self.function(*self.args, **self.kwargs)

    def place(self, position: int | None, *names: str) -> ArgumentPlace | None:
        """Where a parameter's argument stands, which may have one of several `names`; None if it was not given."""
        if position is not None and position < len(self.args):
            return position
        for name in names:
            if name in self.kwargs:
                return name
        return None

    def value(self, position: int | None, name: str, default: Any = None) -> Any:
        """A parameter's argument, given by position or by name, torch's or NumPy's; else `default`."""
        if position is not None and position < len(self.args):
            return self.args[position]
        if name not in self.kwargs:
            name = NUMPY_NAMES.get(name, name)
        return self.kwargs.get(name, default)

    def at(self, place: ArgumentPlace) -> Any:
        """The argument at a place of this call."""
        return self.args[place] if isinstance(place, int) else self.kwargs[place]

    def replaced(self, values: Iterable[tuple[ArgumentPlace, Any]]) -> OpCall:
        """The call with other arguments at some places, given as (place, argument)."""
        args, kwargs = list(self.args), dict(self.kwargs)
        for place, value in values:
            if isinstance(place, int):
                args[place] = value
            else:
                kwargs[place] = value
        return OpCall(self.function, tuple(args), kwargs)
