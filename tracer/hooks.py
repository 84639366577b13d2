"""Module hooks that observe calls and leave nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from tracer.undoing import undoing


class CallListener(Protocol):
    """What is told of every module call, in the order of execution."""

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A call begins; `args` and `kwargs` are as the caller gave them."""

    def leave(self, path: str, module: nn.Module, output: Any) -> None:
        """A call ended, or an exception ended it (`output` is None then)."""


def module_paths(model: nn.Module) -> dict[nn.Module, str]:
    """Each module of `model` with its first path; the model itself has the path ""."""
    return {module: path for path, module in model.named_modules()}


def is_atomic(module: nn.Module) -> bool:
    """Whether a module is one op to the reader: a childless `torch.nn` module, such as `nn.Linear` or
    `nn.LayerNorm`."""
    return type(module).__module__.startswith("torch.nn.modules") and next(module.children(), None) is None


@contextmanager
def listening(paths: Mapping[nn.Module, str], listener: CallListener) -> Iterator[None]:
    """Tell `listener` of every call of the modules in `paths` that this thread makes while the context lasts.

    The hooks come before those that others have registered or will register, so the listener sees a call's arguments
    as the caller gave them and its output before anybody changed it.
    No backward hook is used: captum passes over a module that carries one.
    """
    thread = threading.get_ident()

    def before(module: nn.Module, args: Any, kwargs: dict[str, Any] | None = None) -> None:
        # torch has a hook in place a moment before it knows that the hook wants kwargs (and when it is taken away, a
        # moment after): another thread that calls the module just then gives none.
        if threading.get_ident() == thread:
            listener.enter(paths[module], module, args, kwargs or {})

    def after(module: nn.Module, _args: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            listener.leave(paths[module], module, output)

    with undoing(lambda: remove_hooks(paths, lambda hook: hook is before or hook is after)):
        for module in paths:
            module.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
            module.register_forward_hook(after, prepend=True, always_call=True)
        yield


def remove_hooks(modules: Iterable[nn.Module], ours: Callable[[Any], bool]) -> None:
    """Take away the forward hooks that are `ours`; bears to be interrupted, and to be called again.

    Found by what they are, not by a handle: Ctrl-C may arrive when a hook is there, but its handle is not yet given.
    """
    for module in modules:
        hooks, after = module._forward_pre_hooks, module._forward_hooks
        _remove(hooks, ours, module._forward_pre_hooks_with_kwargs)
        _remove(after, ours, module._forward_hooks_with_kwargs, module._forward_hooks_always_called)


def _remove(hooks: dict[int, Any], ours: Callable[[Any], bool], *settings: dict[int, bool]) -> None:
    for key in [key for key, hook in list(hooks.items()) if ours(hook)] if hooks else ():
        for table in (*settings, hooks):  # the hook last: until then it is found again
            table.pop(key, None)


def tensors_in(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in a nest of tuples, lists, dicts and dataclasses, with its name ("0", "mask", "states.3")."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_in(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from tensors_in(item, f"{name}.{index}" if name else str(index))
    elif hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        for key in value.__dataclass_fields__:
            yield from tensors_in(getattr(value, key, None), f"{name}.{key}" if name else key)
