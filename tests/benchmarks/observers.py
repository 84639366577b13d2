"""The ways of observing one forward and one backward pass that `tests.benchmarks.comparison` compares."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from captum.attr import DeepLift
from torch import nn
from transformers import BertConfig

import tracer
from tests.benchmarks.observing import subject
from tracer.model.tensors import tensors_in
from tracer.tracefile.trace import Trace

LIBRARIES = ("torchlens", "nnsight")
CLASS = 1

Pair = tuple[torch.Tensor, torch.Tensor | None]
"""A tensor and the gradient that arrived at it; None where none flows."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model of frozen parameters, its inputs, and both runs' inputs as one batch."""

    model: nn.Module
    mask: torch.Tensor
    x: torch.Tensor
    reference: torch.Tensor

    def both(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(embeddings of input and reference, their masks); gradients are asked of the embeddings."""
        return torch.cat((self.x, self.reference)).requires_grad_(), torch.cat((self.mask, self.mask))

    def passes(self) -> None:
        """One forward and one backward pass."""
        # Not `.backward()`, which importing nnsight replaces: its own costs something, also outside of its traces.
        both, masks = self.both()
        torch.autograd.grad(self.model(both, masks)[:, CLASS].sum(), both)

    def captum(self) -> None:
        """One attribution of captum's DeepLift."""
        DeepLift(self.model).attribute(self.x, self.reference, CLASS, (self.mask,))


@dataclass(frozen=True, slots=True)
class Tool:
    """One way of observing: `run` gives what it kept, `kept` (number of tensors, bytes) of that.

    `check` raises AssertionError where something is missing. `before` and `after` are not timed.
    """

    name: str
    sees: str
    base: Literal["passes", "captum"]
    run: Callable[[], Any]
    kept: Callable[[Any], tuple[int, int]]
    check: Callable[[Any], None]
    before: Callable[[], None] = lambda: None
    after: Callable[[Any], None] = lambda _kept: None


def frozen_subject(config: BertConfig, tokens: int) -> Subject:
    """A random model of that shape; one for each tool, as some of them leave something on the modules."""
    config = copy.deepcopy(config)
    config._attn_implementation = "eager"  # a fused attention hides its ops from every tool
    model, (mask,), x, reference = subject(config, tokens)
    model.requires_grad_(False)  # captum takes no gradients of parameters: no tool is timed with them
    model.from_embedding_module = False  # it covers a module's `forward`, as nnsight does
    return Subject(model, mask, x, reference)


def called_modules(given: Subject) -> list[str]:
    """The paths of the modules that run, in the order in which their calls end."""
    order: list[str] = []
    handles = [
        module.register_forward_hook(lambda _module, _args, _output, path=path: order.append(path))
        for path, module in given.model.named_modules()
    ]
    with torch.no_grad():
        given.model(*given.both())
    for handle in handles:
        handle.remove()
    return order


def hooked(given: Subject) -> list[Pair]:
    """Plain hooks: a forward hook on each module that clones its outputs, a tensor hook that clones the gradient."""
    held: dict[int, torch.Tensor] = {}  # keeps the tensors alive, so that no other gets the same id
    outputs: dict[int, torch.Tensor] = {}
    gradients: dict[int, torch.Tensor] = {}

    def arrived(key: int, gradient: torch.Tensor) -> None:
        gradients[key] = gradient.clone()

    def after(_module: nn.Module, _args: Any, output: Any) -> None:
        for _name, tensor in tensors_in(output):
            key = id(tensor)
            if key not in held:
                held[key] = tensor
                outputs[key] = tensor.detach().clone()
                if tensor.requires_grad:
                    tensor.register_hook(partial(arrived, key))

    handles = [module.register_forward_hook(after) for module in given.model.modules()]
    given.passes()
    for handle in handles:
        handle.remove()
    return [(output, gradients.get(key)) for key, output in outputs.items()]


def size(pairs: list[Pair]) -> tuple[int, int]:
    """(number of tensors, bytes)."""
    tensors = [tensor for pair in pairs for tensor in pair if tensor is not None]
    return len(tensors), sum(tensor.nbytes for tensor in tensors)


def equal(one: Pair, other: Pair) -> bool:
    """Whether both tensors and both gradients are the same numbers."""
    (value, gradient), (other_value, other_gradient) = one, other
    if gradient is None or other_gradient is None:
        return gradient is other_gradient and torch.equal(value, other_value)
    return torch.equal(value, other_value) and torch.equal(gradient, other_gradient)


def plain_tool(given: Subject) -> Tool:
    """Plain hooks."""

    def check(pairs: list[Pair]) -> None:
        assert pairs and sum(gradient is not None for _value, gradient in pairs) > len(pairs) // 2

    return Tool("plain hooks that clone", "modules, gradients", "passes", lambda: hooked(given), size, check)


def torchlens_tool(given: Subject, expected: list[Pair]) -> Tool:
    """torchlens, a fresh trace each time. Its wrappers of torch's functions, which stay, are put on and off untimed."""
    import torchlens
    from torchlens.backends.torch.wrappers import unwrap_torch, wrap_torch

    options = torchlens.options.CaptureOptions(save_grads=True)

    def run() -> Any:
        both, masks = given.both()
        log = torchlens.trace(given.model, [both, masks], capture=options)
        # torchlens makes frozen parameters ask for gradients: with `inputs` those are not computed.
        return log.log_backward(log[log.output_layers[0]].out[:, CLASS].sum(), inputs=[both])

    def pairs(log: Any) -> list[Pair]:
        return [(op.out.detach(), op.grad if op.has_grad else None) for op in log.layer_list if op.has_saved_activation]

    def check(log: Any) -> None:
        found = pairs(log)
        missing = [pair for pair in expected if not any(equal(pair, other) for other in found)]
        assert not missing, f"torchlens lacks {len(missing)} of {len(expected)} outputs with their gradients"

    def after(log: Any) -> None:
        log.disarm_triggers()
        log.cleanup()
        unwrap_torch()

    return Tool(
        "torchlens", "modules, ops, gradients", "passes", run, lambda log: size(pairs(log)), check, wrap_torch, after
    )


def nnsight_tool(given: Subject, expected: list[Pair]) -> Tool:
    """nnsight: every module's output, saved as a copy in the order of execution, and its gradient in the reverse."""
    import nnsight

    modules = dict(given.model.named_modules())
    order = called_modules(given)
    net = nnsight.NNsight(given.model)
    of_module = {envoy._module: envoy for envoy in net.modules()}
    envoys = [of_module[modules[path]] for path in order]

    def run() -> list[Pair]:
        with net.trace(*given.both()):
            tensors = {id(tensor): tensor for envoy in envoys for _name, tensor in tensors_in(envoy.output)}
            outputs = nnsight.save({key: tensor.detach().clone() for key, tensor in tensors.items()})
            # nnsight wants gradients asked for in the order in which they arrive: the latest op's first.
            waiting = sorted(
                (tensor for tensor in tensors.values() if tensor.requires_grad),
                key=lambda tensor: -tensor.grad_fn._sequence_nr(),
            )
            with net.output[:, CLASS].sum().backward():
                gradients = nnsight.save({id(tensor): tensor.grad.clone() for tensor in waiting})
        return [(output, gradients.get(key)) for key, output in outputs.items()]

    def check(pairs: list[Pair]) -> None:
        assert len(pairs) == len(expected), f"nnsight has {len(pairs)} of {len(expected)} outputs"
        assert all(map(equal, pairs, expected)), "nnsight has other outputs or gradients than plain hooks"

    return Tool("nnsight", "modules, gradients", "passes", run, size, check)


def tracer_tool(
    given: Subject, way: str, also: str, capture: Literal["summary", "tensors"], path: Path | None, paths: list[str]
) -> Tool:
    """`tracer.watch` around captum's run; the modules `paths` must have calls in the trace."""
    details = tracer.Details(names={module: name for name, module in given.model.named_modules()})

    def run() -> Trace:
        with tracer.watch(given.model, path, capture, force=True, details=details) as watching:
            given.captum()
        return watching.trace

    def stored(trace: Trace) -> tuple[int, int]:
        sizes = [row[4] for row in trace.stored_tensors()]
        return len(sizes), sum(sizes)

    def check(trace: Trace) -> None:
        calls = {node.path: node for node in trace.nodes}
        # What does not depend on the input has no difference either: its call is in the trace, its output is not.
        constant = {f"inner.bert.embeddings.{which}_embeddings" for which in ("token_type", "position")}
        missing = [path for path in paths if path not in calls]
        assert not missing, f"the trace has no call of {missing}"
        assert any(node.kind == "op" for node in trace.nodes)
        for path in set(paths) - constant:
            outputs = [edge for edge in trace.edges(calls[path]) if edge.direction == "out"]
            figures = any(edge.multiplier_statistics is not None for edge in outputs)
            tensors = any(edge.value is not None and edge.multiplier is not None for edge in outputs)
            assert figures and (tensors or capture == "summary"), f"the trace has no gradient of {path}"

    sees = f"modules, ops, gradients; differences and delta of each call{also}"
    return Tool(f"deeplift-tracer, {way}", sees, "captum", run, stored, check, after=lambda trace: trace.close())


def tools(config: BertConfig, tokens: int, folder: Path) -> list[Tool]:
    """The tools that are installed, each with a model of its own."""
    given = frozen_subject(config, tokens)
    order = called_modules(given)
    expected = hooked(given)
    found = [plain_tool(given)]
    for library, make in zip(LIBRARIES, (torchlens_tool, nnsight_tool), strict=True):
        if find_spec(library) is not None:
            found.append(make(frozen_subject(config, tokens), expected))
    given = frozen_subject(config, tokens)
    file = folder / "run.dltrace"
    found.append(tracer_tool(given, "figures", "", "summary", None, order))
    found.append(tracer_tool(given, "tensors, in memory", "", "tensors", None, order))
    found.append(tracer_tool(given, "tensors, to a file", "; written to a file", "tensors", file, order))
    return found
