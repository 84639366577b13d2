"""Restores what running a model may change: buffers, random numbers, and what captum writes on modules."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from tracer.model.captum_runs import is_deep_lift
from tracer.model.hooks import modules_of, remove_hooks
from tracer.model.undo import undoing

_WRITTEN_BY_CAPTUM = ("input", "output")


@contextmanager
def restoring_buffers(model: nn.Module) -> Iterator[None]:
    """Restores the buffers of `model`, such as the running statistics that batch norm changes in training."""
    places = [
        (module._buffers, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.layout == torch.strided
    ]

    def undo() -> None:
        for buffers, name, buffer, before in places:
            buffers[name] = buffer
            # Written only if it changed: a graph that the user has not differentiated yet may have saved it.
            if not torch.equal(buffer, before):
                with torch.no_grad():
                    buffer.copy_(before)

    with undoing(undo):
        yield


@contextmanager
def restoring_random_numbers(model: nn.Module) -> Iterator[Callable[[], None]]:
    """A function that resets torch's random numbers to the start of the context, as leaving it does.

    Those of the CPU and of the CUDA devices that `model` is on.
    """
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type == "cuda"}
    before = torch.random.get_rng_state()
    on_devices = [(device, torch.cuda.get_rng_state(device)) for device in devices]

    def rewind() -> None:
        torch.random.set_rng_state(before)
        for device, state in on_devices:
            torch.cuda.set_rng_state(state, device)

    with undoing(rewind):
        yield rewind


def captum_leftovers(model: nn.Module) -> Callable[[], None]:
    """A function that removes the hooks and attributes that captum leaves on `model` from now on.

    captum 0.9 leaves `input` and `output` on the modules that it rules if anything fails before their backward pass,
    and single hooks if Ctrl-C arrives while it sets them.
    """
    before = [(module, _attributes(module), _captums_hooks(module)) for module in modules_of(model)]
    return partial(_remove_leftovers, before)


def _remove_leftovers(before: list[tuple[nn.Module, list[str], list[Any]]]) -> None:
    for module, names, hooks in before:
        for name in _attributes(module):
            if name not in names:
                delattr(module, name)
        for hook in _captums_hooks(module):
            if not any(hook is known for known in hooks):
                remove_hooks([module], partial(operator.is_, hook))


def _attributes(module: nn.Module) -> list[str]:
    own = module.__dict__
    return [name for name in _WRITTEN_BY_CAPTUM if name in own]


def _captums_hooks(module: nn.Module) -> list[Any]:
    if not (module._forward_pre_hooks or module._forward_hooks):
        return []
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return [
        hook
        for hook in hooks
        if str(getattr(hook, "__module__", "")).startswith("captum.") or is_deep_lift(getattr(hook, "__self__", None))
    ]
