"""Temporary changes that are always undone: after an error, and wherever Ctrl-C arrives.

Ctrl-C may arrive between any two steps of Python: inside a `finally`, or in the exit of a context manager before its
first line. So each change has an idempotent `undo`, which is on this thread's list while the change lasts; the
outermost function, decorated with `undoing_all`, runs what is still on the list when it ends.
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
    """`undo` runs when the context ends: make the change inside.

    `undo` must be idempotent, also after a half-made change.
    """
    undos = _pending.undos
    undos.append(undo)
    try:
        yield
    finally:
        # Not on the list any more if `undoing_all` has run it: a traceback may keep this context open for longer.
        if undo in undos:
            try:
                undo()
            except KeyboardInterrupt:  # before it, or half way through
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
        """Undo the later changes, the last first; call it again if Ctrl-C ended it."""
        failed: Exception | None = None
        while len(self._undos) > self._length:
            try:
                self._undos[-1]()
            except Exception as error:  # undo the others all the same
                failed = failed or error
            self._undos.pop()
        if failed is not None:
            raise failed


def undoing_all(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """`function`; when it ends, no change made inside it with `undoing` or torch's contexts is left."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        level = Level()
        remove_stale_modes()
        try:
            _pending.undos += [
                functools.partial(_restore_saving, _saving()),
                functools.partial(torch.set_grad_enabled, torch.is_grad_enabled()),
                functools.partial(_restore_modes, active_modes()),  # undone first: the others would run under them
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
    """The active function modes are the same after the context, whatever was entered or left inside it."""
    with undoing(functools.partial(_restore_modes, active_modes())):
        yield


def remove_stale_modes() -> None:
    """Remove this package's function modes if nothing of it runs in this thread.

    Ctrl-C may arrive while torch has taken a mode off its stack to handle a call; torch then puts it back when the
    KeyboardInterrupt is freed, long after the run.
    """
    if not _pending.undos:
        modes = active_modes()
        _restore_modes([mode for mode in modes if not type(mode).__module__.startswith("tracer.")])


@contextmanager
def saved_tensors(pack: Callable[[torch.Tensor], Any], unpack: Callable[[Any], torch.Tensor]) -> Iterator[None]:
    """As `torch.autograd.graph.saved_tensors_hooks`, whose late exit would remove somebody else's hooks."""
    with undoing(functools.partial(_restore_saving, _saving())):
        torch._C._autograd._push_saved_tensors_default_hooks(pack, unpack)
        yield


def _restore_modes(before: list[Any]) -> None:
    modes = active_modes()
    same = 0
    while same < min(len(modes), len(before)) and modes[same] is before[same]:
        same += 1
    for _mode in modes[same:]:
        torch._C._pop_torch_function_stack()
    for mode in before[same:]:
        torch._C._push_on_torch_function_stack(mode)


def active_modes() -> list[Any]:
    """The function modes that are active in this thread, the outermost first."""
    return list(_get_current_function_mode_stack())  # type: ignore[no-untyped-call]


def _saving() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def _restore_saving(before: Any) -> None:
    while (hooks := _saving()) is not None and hooks != before:
        torch._C._autograd._pop_saved_tensors_default_hooks()


class Mode(TorchFunctionMode):
    """A function mode whose exit removes only itself, also if Ctrl-C interrupted its `__enter__`.

    torch's own removes whatever is on top, and if there is nothing raises an error that hides the KeyboardInterrupt.
    """

    def __enter__(self) -> Self:
        torch._C._push_on_torch_function_stack(self)
        return self

    def __exit__(self, *_error: object) -> None:
        modes = active_modes()
        if modes and modes[-1] is self:
            torch._C._pop_torch_function_stack()

    def take_off(self) -> None:
        """Take the mode off the stack, wherever it is there: one that a hook has entered may be under later ones."""
        _restore_modes([mode for mode in active_modes() if mode is not self])
