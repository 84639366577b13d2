"""Tells a listener of the attributions that captum's DeepLift makes: before it hooks a model, after, and the result.

Nothing is written on a model for that: a hook on it, or an active function mode, keeps torch from its fused layers in
the runs without gradients that captum makes of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tracer.model.process import Switch, ThreadStack


class AttributionListener(Protocol):
    """What is told of each attribution by a `captum.attr.DeepLift` object or one of a subclass, the `lift`."""

    def begin(self, lift: Any, arguments: dict[str, Any]) -> None:
        """The object is about to hook its model and run it; told more than once of one attribution.

        `arguments` are those of `attribute`, by name; {} where it is a subclass's own.
        """

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


_listeners: ThreadStack[AttributionListener] = ThreadStack()


def attributions_told(listener: AttributionListener) -> AbstractContextManager[None]:
    """Tell `listener` of each attribution by captum's DeepLift in this thread while the context lasts."""
    return _listeners.pushed(listener, _telling)


def being_told() -> bool:
    """Whether this thread is inside `attributions_told`."""
    return bool(_listeners.items)


def _hook_main_model(lift: Any) -> Any:
    for listener in _listeners.items[-1:]:
        listener.begin(lift, {})
    return _telling.before["DeepLift", "_hook_main_model"](lift)


def _remove_hooks(lift: Any, *hooks: Any) -> None:
    _telling.before["DeepLift", "_remove_hooks"](lift, *hooks)
    for listener in _listeners.items[-1:]:
        listener.end(lift)


def _attribute_of(name: str) -> Callable[..., Any]:
    """What stands for `attribute` of captum's class `name`."""

    def attribute(lift: Any, *args: Any, **kwargs: Any) -> Any:
        return _tell(_telling.before[name, "attribute"], lift, *args, **kwargs)

    def unlogged(lift: Any, *args: Any, **kwargs: Any) -> Any:
        return _tell(_telling.before[name, "attribute"].__wrapped__, lift, *args, **kwargs)

    # How captum's other classes call it: around what logs each use.
    attribute.__wrapped__ = unlogged  # type: ignore[attr-defined]
    return attribute


def _tell(attribute: Callable[..., Any], lift: Any, *args: Any, **kwargs: Any) -> Any:
    if not _listeners.items:
        return attribute(lift, *args, **kwargs)
    listener = _listeners.items[-1]
    try:
        bound = inspect.signature(attribute).bind(lift, *args, **kwargs)
    except TypeError:
        return attribute(lift, *args, **kwargs)  # captum says what is wrong with the arguments
    bound.apply_defaults()
    try:
        listener.begin(lift, bound.arguments)
        result = attribute(lift, *args, **kwargs)
    except BaseException as error:
        listener.end(lift)
        listener.failed(lift, bound.arguments, error)
        raise
    listener.end(lift)
    listener.returned(lift, bound.arguments, result)
    return result


_Methods = dict[tuple[str, str], Any]
"""Functions by the names of captum's class and of the method."""


def _methods() -> _Methods:
    from captum import attr

    return {(kind, name): vars(getattr(attr, kind))[name] for kind, name in _TOLD_OF}


def _replace_methods(methods: _Methods) -> None:
    from captum import attr

    for (kind, name), method in methods.items():
        setattr(getattr(attr, kind), name, method)


_TOLD_OF: _Methods = {
    ("DeepLift", "_hook_main_model"): _hook_main_model,
    ("DeepLift", "_remove_hooks"): _remove_hooks,
    ("DeepLift", "attribute"): _attribute_of("DeepLift"),
    ("LayerDeepLift", "attribute"): _attribute_of("LayerDeepLift"),
}
_telling: Switch[_Methods] = Switch(_methods, _replace_methods, _TOLD_OF)
