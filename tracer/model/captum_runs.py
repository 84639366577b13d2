"""Tells a listener of the attributions that captum's DeepLift makes: before it hooks a model, after, and the result.

Nothing is written on a model for that: a hook on it, or an active function mode, keeps torch from its fused layers in
the runs without gradients that captum makes of its own.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tracer.model.process import Switch
from tracer.model.undo import undoing


class AttributionListener(Protocol):
    """What is told of each attribution by a `captum.attr.DeepLift` object or one of a subclass, the `lift`."""

    def begin(self, lift: Any) -> None:
        """The object is about to hook its model and run it; told more than once of one attribution."""

    def end(self, lift: Any) -> None:
        """The object has run its model forward and backward, or failed, and removed its hooks; told more than once."""

    def returned(self, lift: Any, arguments: dict[str, Any], result: Any) -> None:
        """`attribute` gave `result` for these arguments."""

    def failed(self, lift: Any, arguments: dict[str, Any], error: BaseException) -> None:
        """`attribute` raised."""


def is_deep_lift(owner: object) -> bool:
    """Whether an object is captum's DeepLift, or of a subclass of it, captum's own or somebody else's."""
    kinds = type(owner).__mro__
    return any(kind.__name__ == "DeepLift" and kind.__module__.startswith("captum.attr") for kind in kinds)


class _Listeners(threading.local):
    def __init__(self) -> None:
        self.stack: list[AttributionListener] = []


_listeners = _Listeners()


@contextmanager
def attributions_told(listener: AttributionListener) -> Iterator[None]:
    """Tell `listener` of each attribution by captum's DeepLift in this thread while the context lasts."""
    stack = _listeners.stack
    depth = len(stack)

    def undo() -> None:
        del stack[depth:]

    with undoing(undo), _telling.on():
        stack.append(listener)
        yield


def being_told() -> bool:
    """Whether this thread is inside `attributions_told`."""
    return bool(_listeners.stack)


def _hook_main_model(lift: Any) -> Any:
    for listener in _listeners.stack[-1:]:
        listener.begin(lift)
    return _telling.before["_hook_main_model"](lift)


def _remove_hooks(lift: Any, *hooks: Any) -> None:
    _telling.before["_remove_hooks"](lift, *hooks)
    for listener in _listeners.stack[-1:]:
        listener.end(lift)


def _attribute(lift: Any, *args: Any, **kwargs: Any) -> Any:
    return _tell(_telling.before["attribute"], lift, *args, **kwargs)


def _attribute_unlogged(lift: Any, *args: Any, **kwargs: Any) -> Any:
    return _tell(_telling.before["attribute"].__wrapped__, lift, *args, **kwargs)


# How captum's other classes call it: around what logs each use.
_attribute.__wrapped__ = _attribute_unlogged  # type: ignore[attr-defined]


def _tell(attribute: Callable[..., Any], lift: Any, *args: Any, **kwargs: Any) -> Any:
    if not _listeners.stack:
        return attribute(lift, *args, **kwargs)
    listener = _listeners.stack[-1]
    try:
        bound = inspect.signature(attribute).bind(lift, *args, **kwargs)
    except TypeError:
        return attribute(lift, *args, **kwargs)  # captum says what is wrong with the arguments
    bound.apply_defaults()
    try:
        listener.begin(lift)  # a subclass may have another `_hook_main_model`
        result = attribute(lift, *args, **kwargs)
    except BaseException as error:
        listener.end(lift)
        listener.failed(lift, bound.arguments, error)
        raise
    listener.end(lift)
    listener.returned(lift, bound.arguments, result)
    return result


def _methods() -> dict[str, Any]:
    from captum.attr import DeepLift

    return {name: DeepLift.__dict__[name] for name in _TOLD_OF}


def _replace_methods(methods: dict[str, Any]) -> None:
    from captum.attr import DeepLift

    for name, method in methods.items():
        setattr(DeepLift, name, method)


_TOLD_OF = {"_hook_main_model": _hook_main_model, "_remove_hooks": _remove_hooks, "attribute": _attribute}
_telling: Switch[dict[str, Any]] = Switch(_methods, _replace_methods, _TOLD_OF)
