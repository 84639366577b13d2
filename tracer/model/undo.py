"""Changes for a while that are taken back for certain: after an error, and wherever Ctrl-C arrives.

Ctrl-C may arrive between any two steps of Python's own: inside a `finally`, or in the exit of a context manager before
its first line. So each change has an `undo` that may be run twice, and lies on this thread's list while the change
lasts; the outermost function, `undoing_all`, runs what is still on the list when it ends.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, Self, TypeVar

import torch
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

Undo = Callable[[], object]
_P = ParamSpec("_P")
_R = TypeVar("_R")


class _Pending(threading.local):
    def __init__(self) -> None:
        self.undos: list[Undo] = []


_pending = _Pending()


@contextmanager
def undoing(undo: Undo) -> Iterator[None]:
    """`undo` runs when the context ends: make the change inside. It must bear to run twice, and half done before."""
    undos = _pending.undos
    undos.append(undo)
    try:
        yield
    finally:
        # Not on the list: `undoing_all` has run it, and this context is closed late, with the traceback that held it.
        if undo in undos:
            try:
                undo()
            except KeyboardInterrupt:  # as it began, or half way
                undo()
                raise
            finally:
                undos.remove(undo)


class Level:
    """How far this thread's list of changes goes; `put_back` undoes all that came after."""

    def __init__(self) -> None:
        self._undos = _pending.undos
        self._length = len(self._undos)

    def put_back(self) -> None:
        """Undo the later changes, the last first; to be called again where Ctrl-C ended it."""
        failed: Exception | None = None
        while len(self._undos) > self._length:
            try:
                self._undos[-1]()
            except Exception as error:  # the others are undone all the same
                failed = failed or error
            self._undos.pop()
        if failed is not None:
            raise failed


def undoing_all(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """`function`, after which no change is left that was made inside it with `undoing`, or with torch's contexts."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        level = Level()
        remove_stale_modes()
        try:
            _pending.undos += [
                functools.partial(_restore_saving, _saving()),
                functools.partial(torch.set_grad_enabled, torch.is_grad_enabled()),
                functools.partial(_restore_modes, _modes()),  # the first to be undone: the others would run under them
            ]
            return function(*args, **kwargs)
        finally:
            try:
                level.put_back()
            except KeyboardInterrupt:
                level.put_back()
                raise

    return wrapped


@contextmanager
def restoring_modes() -> Iterator[None]:
    """The function modes under way are the same after the context, whatever was entered or left inside it."""
    with undoing(functools.partial(_restore_modes, _modes())):
        yield


def remove_stale_modes() -> None:
    """Take the package's function modes away where nothing of it is under way in this thread.

    Ctrl-C may arrive as `torch.overrides.handle_torch_function` has taken a mode away for a moment; torch then puts it
    back when the KeyboardInterrupt is forgotten, long after its run.
    """
    if not _pending.undos:
        modes = _modes()
        _restore_modes([mode for mode in modes if not type(mode).__module__.startswith("tracer.")])


@contextmanager
def saved_tensors(pack: Callable[[torch.Tensor], Any], unpack: Callable[[Any], torch.Tensor]) -> Iterator[None]:
    """As `torch.autograd.graph.saved_tensors_hooks`, whose exit would take away another's hooks if it came late."""
    with undoing(functools.partial(_restore_saving, _saving())):
        torch._C._autograd._push_saved_tensors_default_hooks(pack, unpack)
        yield


def _restore_modes(before: list[Any]) -> None:
    modes = _modes()
    same = 0
    while same < min(len(modes), len(before)) and modes[same] is before[same]:
        same += 1
    for _mode in modes[same:]:
        torch._C._pop_torch_function_stack()
    for mode in before[same:]:
        torch._C._push_on_torch_function_stack(mode)


def _modes() -> list[Any]:
    return list(_get_current_function_mode_stack())  # type: ignore[no-untyped-call]


def _saving() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def _restore_saving(before: Any) -> None:
    while (hooks := _saving()) is not None and hooks != before:
        torch._C._autograd._pop_saved_tensors_default_hooks()


class Mode(TorchFunctionMode):
    """A function mode whose exit takes away itself alone, also where Ctrl-C kept its `__enter__` from its end.

    torch's own takes away whatever lies on top, and raises where there is nothing, in place of the KeyboardInterrupt.
    """

    def __enter__(self) -> Self:
        torch._C._push_on_torch_function_stack(self)
        return self

    def __exit__(self, *_error: object) -> None:
        modes = _modes()
        if modes and modes[-1] is self:
            torch._C._pop_torch_function_stack()
