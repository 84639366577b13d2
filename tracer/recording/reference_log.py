"""Logs the tensors of the reference's run, for methods that run input and reference one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tracer.model import torch_functions
from tracer.model.held import HeldTensors
from tracer.model.hooks import is_atomic
from tracer.model.tensors import tensors_in
from tracer.model.undo import Mode
from tracer.op_call import OpCall

TwinOf = Callable[[torch.Tensor], torch.Tensor | None]
"""Gives the tensor with a graph that stands for a mask or an index; None for a tensor that has none."""


class ReferenceLog(Mode):
    """Logs the tensors of each call of a run; `next()` gives them call by call to the recorder of the input's run.

    Use it like `Recorder`, as the listener of `hooks.listening` and as a context manager. Both count the same calls, so
    they see the same sequence as long as the model takes the same way through its code.
    """

    def __init__(self, model: nn.Module, twin_of: TwinOf = lambda tensor: None) -> None:
        super().__init__()
        self.model = model
        self._twin_of = twin_of
        self._entries: list[dict[str, torch.Tensor]] = []
        self._position = 0
        self._active = False
        self._leaf_depth = 0
        self._held = HeldTensors()

    def next(self) -> Mapping[str, torch.Tensor]:
        """The reference's tensors, by argument and result name, of the call that the input's run has reached."""
        self._position += 1
        if self._position > len(self._entries):
            return {}
        entry, self._entries[self._position - 1] = self._entries[self._position - 1], {}  # freed once it is used
        return entry

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Log the arguments of a module call."""
        if module is self.model:
            self._active = True
            return
        if not self._active:
            return
        if self._leaf_depth:
            self._leaf_depth += 1
            return
        given = [*tensors_in(args), *tensors_in(kwargs)]
        self._log(given)
        if is_atomic(module):
            self._leaf_depth = 1
            if getattr(module, "inplace", False):
                for _name, tensor in given:
                    self._keep_value(tensor)

    def leave(self, path: str, module: nn.Module, output: Any) -> None:
        """Log the results of a module call."""
        if module is self.model:
            self._active = False
            self._held.clear()
        elif self._active:
            self._leaf_depth = max(self._leaf_depth - 1, 0)
            if not self._leaf_depth:
                self._log(tensors_in(output, "output"))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the op unchanged and log its tensors."""
        kwargs = kwargs or {}
        if not self._active or self._leaf_depth:
            return func(*args, **kwargs)
        op = torch_functions.describe(func)
        call = OpCall(func, args, kwargs)
        if op.role == "ignore":
            return self._run_choice(call)
        if op.role == "composite":
            with self:
                return torch_functions.run_composite(op.name, call)
        written = torch_functions.written_tensor(op, call)
        if written is not None:
            self._keep_value(written)
        given = torch_functions.arguments(call if written is None else call.replaced([(0, written)]))
        arguments = with_twins(given, self._twin_of)
        if written is not None:  # the op overwrites it: log the value from before
            with torch._C.DisableTorchFunction():
                arguments = [(name, item.clone() if item is written else item) for name, item in arguments]
        self._leaf_depth = 1  # an op is a leaf, whatever modules a rule runs in it: a mixture of experts runs several
        try:
            output = func(*args, **kwargs)
        finally:
            self._leaf_depth = 0
        made = tensors_in(output if written is None else written, "output")
        self._log([*arguments, *with_twins(made, self._twin_of)])
        return output

    def _run_choice(self, call: OpCall) -> Any:
        """Run an op that makes no number; log it if it makes a mask or an index that the input decides."""
        arguments = with_twins(torch_functions.arguments(call), self._twin_of)
        output = call.run()
        if results := twins_in(output, self._twin_of):
            self._log([*arguments, *results])
        return output

    def _log(self, tensors: list[tuple[str, torch.Tensor]]) -> None:
        with torch._C.DisableTorchFunction():  # the engine's mode below is not to see these
            entry = {name: tensor.detach() for name, tensor in tensors}
            self._entries.append(entry)
            for name in entry:
                self._held.hold(entry, name)

    def _keep_value(self, tensor: torch.Tensor) -> None:
        """Copy the logged values in this tensor's memory, which an in-place op is about to overwrite."""
        with torch._C.DisableTorchFunction():
            self._held.copy_before_write(tensor)


def with_twins(tensors: Iterable[tuple[str, torch.Tensor]], twin_of: TwinOf) -> list[tuple[str, torch.Tensor]]:
    """The named tensors, with its twin for each mask and index that has one."""
    return [(name, tensor if (twin := twin_of(tensor)) is None else twin) for name, tensor in tensors]


def twins_in(output: Any, twin_of: TwinOf) -> list[tuple[str, torch.Tensor]]:
    """The twins of the masks and indices that an op gives, by their names."""
    found = ((name, twin_of(tensor)) for name, tensor in tensors_in(output, "output"))
    return [(name, twin) for name, twin in found if twin is not None]
