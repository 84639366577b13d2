"""The functions that a module calls itself, not in a child of its, handed to a route."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tracer.model import torch_functions
from tracer.model.hooks import remove_hooks
from tracer.model.undo import Mode, undoing
from tracer.op_call import OpCall

_KINDS: dict[Callable[..., Any], str] = {
    F.softmax: "softmax",
    torch.softmax: "softmax",
    torch.Tensor.softmax: "softmax",
    torch.special.softmax: "softmax",
    F.gelu: "gelu",
}


@dataclass(slots=True)
class ModuleCall:
    """One module call that is under way, with the number of its direct calls of wanted functions so far."""

    module: nn.Module
    count: int = 0
    mode: Mode | None = None

    def next_index(self) -> int:
        """The number of the next direct call, from 0."""
        self.count += 1
        return self.count - 1


Route = Callable[[ModuleCall, str | None, OpCall], Any]
"""Makes a call in place of the module that asked for it: of `kind` "softmax" or "gelu", or None for fused attention."""


class Routing(Mode):
    """Hands softmax, GELU and fused attention that the innermost module of `stack` calls itself to `route`.

    With an `owner`, only those of this one call, and none of the modules that run inside it.
    """

    def __init__(self, stack: list[ModuleCall], owner: ModuleCall | None, route: Route) -> None:
        super().__init__()
        self._stack = stack
        self._owner = owner
        self._route = route

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        top = self._stack[-1] if self._stack else None
        if top is None or (self._owner is not None and top is not self._owner):
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:  # the mode is off in here, and the softmax sits inside this function
                return torch_functions.body(func)(*args, **kwargs)
        kind = _KINDS.get(func)
        if kind is None and func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        return self._route(top, kind, OpCall(func, args, kwargs))


@contextmanager
def calls_followed(
    model: nn.Module,
    stack: list[ModuleCall],
    begin: Callable[[ModuleCall], object] = lambda _call: None,
    end: Callable[[ModuleCall], object] = lambda _call: None,
) -> Iterator[None]:
    """Keeps the module calls under way on `stack`, the innermost last; `begin` and `end` are told of each."""

    thread = threading.get_ident()
    modules = list(model.modules())

    def before(module: nn.Module, _args: Any) -> None:
        if threading.get_ident() == thread:
            call = ModuleCall(module)
            stack.append(call)
            begin(call)

    def after(module: nn.Module, _args: Any, _output: Any) -> None:
        # An earlier hook that failed may have kept `before` from running: then the top is not this module's call.
        if threading.get_ident() == thread and stack and stack[-1].module is module:
            end(stack.pop())

    with undoing(lambda: remove_hooks(modules, lambda hook: hook is before or hook is after)):
        for module in modules:
            module.register_forward_pre_hook(before)
            module.register_forward_hook(after, always_call=True)
        yield
