"""The recorder: notes every module call and every functional op of one attribution, and the wires between them.

Nothing is inserted into the user's computation and nothing is written on the user's modules: module hooks report calls,
a `TorchFunctionMode` reports ops, and hooks on autograd's own nodes report multipliers (see `multipliers`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.autograd.graph import Node

from tracer import ops
from tracer.errors import ObservationError
from tracer.ledger.example_axis import Origin, find_place
from tracer.ledger.settling import Settling
from tracer.ledger.wires import AttributedInputs, Border, Observation, ObservedCall, Use, Wire
from tracer.model import torch_functions
from tracer.model.autograd import GradientEdge, consumptions, gradient_edge
from tracer.model.hooks import is_atomic
from tracer.model.source import source_line
from tracer.model.tensors import memory_of, tensors_in
from tracer.model.undo import Mode
from tracer.op_call import OpCall
from tracer.recording import notes
from tracer.recording.decided import Decided
from tracer.recording.journal import Journal
from tracer.recording.live_wires import LiveWires
from tracer.recording.multipliers import Multipliers
from tracer.recording.reference_log import ReferenceLog, TwinOf, twins_in, with_twins
from tracer.records import NodeKind, Note

_RESHAPING_NODES = (
    "View", "UnsafeView", "Reshape", "AsStrided", "Slice", "Select", "Transpose", "Permute", "Expand", "Alias", "Clone",
    "Unsqueeze", "Squeeze", "TBackward", "Split", "Unbind", "BackwardHookFunction",
)  # fmt: skip
"""How the names of autograd nodes begin that only move elements, or copy them."""

GraphTensor: TypeAlias = tuple[str, torch.Tensor, GradientEdge]
"""An argument or result by name: a tensor with its place in the autograd graph."""


class Recorder(Mode):
    """Notes one forward pass of `model` and the backward pass through it, as an `Observation`.

    Use it as the listener of `hooks.listening`, and as a context manager unless it `enters_itself`: then it is a
    function mode only while the model runs. Only the first attribution is recorded. The arguments:

    - `on_root(args, kwargs)` is asked at each call of the model for the inputs; None lets the call pass unrecorded.
    - `rule_of` names the rule that replaces a module's gradient, `rule_of_node` the one behind a graph node (None:
      autograd).
    - `log` holds the reference's run, unless the reference is half of a doubled batch.
    - `twin_of` gives the tensor with a graph that stands for a mask or an index; None for a tensor that has none.
    - `border` is where the attribution begins or ends, unless that is at the model's own inputs and outputs.
    - `root_type` is the type to show for the model, `journal` is told how far the run is, and `settling` makes the
      object that settles the wires of the observation.
    """

    def __init__(
        self,
        model: nn.Module,
        on_root: Callable[[tuple[Any, ...], dict[str, Any]], AttributedInputs | None],
        *,
        rule_of: Callable[[nn.Module], str | None] = lambda module: None,
        rule_of_node: Callable[[Node], str | None] = lambda node: None,
        log: ReferenceLog | None = None,
        root_type: str = "",
        journal: Journal | None = None,
        settling: Callable[[Observation], Settling] = Settling,
        enters_itself: bool = False,
        border: Border | None = None,
        twin_of: TwinOf = lambda tensor: None,
    ) -> None:
        super().__init__()
        self.model = model
        self.on_root = on_root
        self.rule_of = rule_of
        self.rule_of_node = rule_of_node
        self.log = log
        self.root_type = root_type
        self.journal = journal
        self.observation: Observation | None = None
        self.settling: Settling | None = None
        self._enters_itself = enters_itself
        self._border = border
        self._twin_of = twin_of
        self._settling_of = settling
        self._active = False
        self._stack: list[ObservedCall] = []
        self._leaf_depth = 0
        self._roots = 0
        self._references: Mapping[str, torch.Tensor] = {}
        self._running: tuple[str, OpCall | None] = ("", None)
        self._numbers: Counter[str] = Counter()
        self._live = LiveWires()
        self._decided: Decided | None = None  # only where both runs share a batch
        self._multipliers = Multipliers(rule_of_node, journal)
        self._by_edge = self._multipliers.wires
        self._attributed: AttributedInputs | None = None
        self._doubling: list[tuple[torch.Tensor, torch.Tensor]] = []

    # --- module calls -------------------------------------------------------------------------------------------------

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note that a module call begins."""
        with torch._C.DisableTorchFunction():
            if module is self.model:
                self._roots += 1
                if self._roots == 1:
                    self._begin(args, kwargs)
            if not self._active:
                return
            if self._leaf_depth:
                self._leaf_depth += 1
                return
            rule = self.rule_of(module)
            leaf = module is not self.model and (rule is not None or is_atomic(module))
            given = [] if module is self.model else [*tensors_in(args), *tensors_in(kwargs)]
            arguments = [] if module is self.model else self._take_arguments(given, watched=rule == "captum")
            shown = (self.root_type if module is self.model else "") or type(module).__name__
            call = self._open(path, "module", shown, None, rule or "autograd", leaf, arguments)
            if rule == "captum":
                self._note(notes.at_call(path, call.number, module, args, kwargs))
            if module is self.model:
                self._take_inputs()
            elif self._border is not None and module is self._border.module and self._border.at_input:
                self._cross_border(self._border, _graph_tensors(given), call.take)
            if leaf:
                self._leaf_depth = 1
                if getattr(module, "inplace", False):
                    for _name, tensor in given:
                        # A module that captum rules works on a copy of its argument.
                        self._keep_value(tensor, "" if rule == "captum" else path)

    def leave(self, path: str, module: nn.Module, output: Any) -> None:
        """Note that a module call ended; `output` is None after an exception."""
        with torch._C.DisableTorchFunction():
            if module is self.model:
                self._roots -= 1
            if not self._active or not self._stack:
                return
            if self._leaf_depth > 1:
                self._leaf_depth -= 1
                return
            call = self._stack[-1]
            if module is self.model and output is not None:
                self._note(notes.of_output(output))
            results = _graph_tensors(tensors_in(output, "output"))
            if call.leaf:
                self._leaf_depth = 0
                self._references = self.log.next() if self.log else {}
                self._running = (type(module).__name__, None)
                self._record_results(call, results)
                self._running = ("", None)
                if call.rule == "captum" and getattr(module, "inplace", False) and call.arguments and call.results:
                    call.overwrote = not torch.equal(call.arguments[0][1].value, call.results[0][1].value)
            else:
                self._references = self.log.next() if self.log and module is not self.model else {}
                self._note_results(call, results)
                if self.settling is not None:
                    self._live.put_aside(call, self.settling)
            if self._border is not None and module is self._border.module and not self._border.at_input:
                self._cross_border(self._border, results, call.give)
            self._close(call)
            if module is self.model:
                self._finish()

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        attributed = None if self.observation is not None else self.on_root(args, kwargs)
        if attributed is None:
            return
        self._attributed = attributed
        self.observation = Observation(attributed.examples, attributed.doubled)
        self.settling = self._settling_of(self.observation)
        self._decided = Decided() if attributed.doubled else None
        self._multipliers.begin(self.observation, self.settling)
        if self.journal is not None:
            self.journal.begin(attributed.examples)
        self._active = True
        if self._enters_itself:
            self.__enter__()

    def _take_inputs(self) -> None:
        assert self._attributed is not None
        if self._attributed.joined_later:
            assert self._attributed.references is not None
            self._doubling = list(zip(self._attributed.inputs, self._attributed.references, strict=True))
            return
        references = self._attributed.references
        for index, tensor in enumerate(self._attributed.inputs):
            self._add_input(tensor, None if references is None else references[index])

    def _finish(self) -> None:
        assert self.observation is not None
        if not self.observation.outputs:
            self.observation.outputs = [wire for _name, wire in self.observation.calls[0].results]
        self._forget()

    def _cross_border(self, border: Border, tensors: list[GraphTensor], show: Callable[[str, Wire], None]) -> None:
        """Have the attribution begin, or end, at these tensors; `show` notes one at the call that has it."""
        assert self.observation is not None
        if not border.begins:
            self.observation.ends_inside = True
            self.observation.outputs = [
                self._by_edge[edge] for _name, _tensor, edge in tensors if edge in self._by_edge
            ]
            return
        root = self.observation.calls[0]
        root.arguments.clear()
        self.observation.inputs = []
        for name, tensor, edge in tensors:
            wire = self._by_edge.get(edge)
            if wire is None:  # captum asks for no gradients at the model's inputs
                wire = self._add(tensor, edge, None, name)
                self._multipliers.watch(edge, wire)
                show(name, wire)
            wire.producer = None  # what comes before it is not part of the attribution
            root.take(f"input {len(self.observation.inputs)}", wire)
            self.observation.inputs.append(wire)
        if not self.observation.inputs:
            raise ObservationError(
                "the layer is given the model's own input: watch captum.attr.DeepLift, which attributes to that"
            )
        if border.at_input and self._stack[-1].rule == "captum":
            raise ObservationError(
                f"captum leaves its rule for {self._stack[-1].path} out where it attributes to that module's input: "
                "attribute to the output of the module before it"
            )

    def abandon(self) -> None:
        """End the calls that an exception left open, so that the calls so far can be shown."""
        while self._stack:
            self._close(self._stack[-1])
        self._forget()

    def _forget(self) -> None:
        if self._enters_itself:
            self.take_off()
        self._active = False
        self._leaf_depth = 0
        self._stack.clear()
        self._multipliers.end_forward_pass()
        self._live.clear()
        self._decided = None
        self._references = {}

    def _open(
        self,
        path: str,
        kind: NodeKind,
        type_name: str,
        source: str | None,
        rule: str,
        leaf: bool,
        arguments: Iterable[tuple[str, Wire]] = (),
    ) -> ObservedCall:
        assert self.observation is not None
        calls = self.observation.calls
        parent = self._stack[-1].index if self._stack else None
        number = self._numbers[path]
        self._numbers[path] += 1
        call = ObservedCall(len(calls), parent, path, number, kind, type_name, source, rule, leaf, time.perf_counter())
        call.first_wire = len(self.observation.wires)
        for name, wire in arguments:
            call.take(name, wire)
        calls.append(call)
        self._stack.append(call)
        return call

    def _close(self, call: ObservedCall) -> None:
        assert self.observation is not None
        self._stack.pop()
        call.seconds = time.perf_counter() - call.started
        call.end = len(self.observation.calls)
        if self.journal is not None:
            self.journal.forward(self.observation)

    # --- ops ----------------------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the op unchanged; note it if it computes something inside the model."""
        kwargs = kwargs or {}
        if not self._active or self._leaf_depth:
            return func(*args, **kwargs)
        op = torch_functions.describe(func)
        if op.role == "ignore":
            call = OpCall(func, args, kwargs)
            output = self._run_choice(op.name, call)
            if self._decided is not None:
                self._decided.look_at(op.name, call, output)
            return output
        if self._doubling and op.name == "cat" and self._note_doubling(args):
            output = func(*args, **kwargs)
            self._add_input(output, None)
            return output
        call = OpCall(func, args, kwargs)
        if op.role == "composite":
            return self._run_composite(op.name, call)
        written = torch_functions.written_tensor(op, call)
        self._references = self.log.next() if self.log else {}
        if written is not None:
            if written is not args[0]:
                self._adopt_base(args[0], written)
            self._keep_value(written, op.name)
        arguments = torch_functions.arguments(call if written is None else call.replaced([(0, written)]))
        inputs = self._wires(with_twins(arguments, self._twin_of))
        started = time.perf_counter()
        self._leaf_depth = 1  # an op is a leaf, whatever modules a rule runs in it: a mixture of experts runs several
        try:
            output = func(*args, **kwargs)
        finally:
            self._leaf_depth = 0
        if self._decided is not None:
            self._decided.look_at(op.name, call, output)
        made = tensors_in(output if written is None else written, "output")
        results = _graph_tensors(with_twins(made, self._twin_of))
        self._running = (op.name, call)
        if op.role == "shape" and not _picks(call) and len({wire.index for _name, wire in inputs}) == 1:
            self._record_reshaping(inputs[0][1], results)
        else:
            self._record_op(op.name, call, started, inputs, results)
        self._running = ("", None)
        return output

    def _run_choice(self, name: str, call: OpCall) -> Any:
        """Run an op that makes no number; note it if it makes a mask or an index that the input decides."""
        arguments = with_twins(torch_functions.arguments(call), self._twin_of)
        started = time.perf_counter()
        output = call.run()
        results = _graph_tensors(twins_in(output, self._twin_of))
        if results:
            self._references = self.log.next() if self.log else {}
            self._running = (name, call)
            self._record_op(name, call, started, self._wires(arguments), results)
            self._running = ("", None)
        return output

    def _run_composite(self, name: str, op_call: OpCall) -> Any:
        self._references = {}
        inputs = self._wires(torch_functions.arguments(op_call))
        path = f"{self._stack[-1].path}/{name}"
        call = self._open(path, "op", name, source_line(), "autograd", leaf=False, arguments=inputs)
        try:
            with self:  # torch switches the mode off during this call
                output = torch_functions.run_composite(name, op_call)
            self._references = {}
            self._note_results(call, _graph_tensors(tensors_in(output, "output")))
        finally:
            self._close(call)
        return output

    def _record_op(
        self,
        name: str,
        op_call: OpCall,
        started: float,
        inputs: list[tuple[str, Wire]],
        results: list[GraphTensor],
    ) -> None:
        edges = [edge for _name, _tensor, edge in results if edge not in self._by_edge]
        if not edges or not (inputs or consumptions(edges, self._by_edge)):
            return  # nothing new, or nothing that depends on the model's input
        path = f"{self._stack[-1].path}/{name}"
        call = self._open(path, "op", name, source_line(), "autograd", leaf=True, arguments=inputs)
        call.started = started
        self._note(notes.of_op(name, call.path, call.number, op_call))
        if self._decided is not None and self.observation is not None:
            at = name, call.path, call.number, op_call, self.observation.rows
            self._note(self._decided.note(*at))
            if ops.jumps(name):
                self._note(notes.of_constants(*at))
        self._record_results(call, results)
        self._close(call)

    def _record_reshaping(self, source: Wire, results: list[GraphTensor]) -> None:
        fresh = [(name, tensor, edge) for name, tensor, edge in results if edge not in self._by_edge]
        if not fresh:
            return
        use = Use(source, self._stack[-1].index, "", reshaping=True)
        self._multipliers.attach([edge for _name, _tensor, edge in fresh], {source: use}, self._stack[-1].index)
        wires = [self._add(tensor, edge, None, name, parent=source) for name, tensor, edge in fresh]
        for wire, (_name, _tensor, edge) in zip(wires, fresh, strict=True):
            self._multipliers.watch(edge, wire)
        if self.observation is not None and source in self.observation.outputs:
            self.observation.outputs += wires  # captum asks for the gradient of a copy of what a neuron's layer gives

    # --- wires --------------------------------------------------------------------------------------------------------

    def _add(
        self,
        tensor: torch.Tensor,
        edge: GradientEdge | None,
        producer: int | None,
        name: str,
        *,
        parent: Wire | None = None,
        source: tuple[str, Wire] | None = None,
    ) -> Wire:
        assert self.observation is not None
        taken, near = ("", parent) if parent is not None else source or ("", None)
        origin = None
        if near is not None and near.place is not None:
            origin = Origin(near.value, near.place, taken, *self._running, name)
        memory = memory_of(tensor)  # before the shape is read: it refuses tensors that are not in one piece of memory
        place = find_place(tensor, self.observation.rows, origin)
        references = self._references.get(name)
        with torch._C.DisableTorchFunction():  # the exact rules' mode would take it for the model's own
            value = tensor.detach()
        wire = Wire(len(self.observation.wires), value, place, producer, parent, references)
        self.observation.wires.append(wire)
        if edge is not None:
            self._by_edge[edge] = wire
        self._live.add(wire, memory)
        return wire

    def _add_input(self, tensor: torch.Tensor, reference: torch.Tensor | None) -> Wire:
        assert self.observation is not None
        edge = gradient_edge(tensor)
        wire = self._add(tensor, edge, None, "")
        wire.reference = reference
        self._multipliers.watch(edge, wire)
        self._stack[0].take(f"input {len(self.observation.inputs)}", wire)
        self.observation.inputs.append(wire)
        return wire

    def _note_doubling(self, args: tuple[Any, ...]) -> bool:
        """Whether this `torch.cat` is captum's own, which joins an input and its reference into one batch."""
        parts = args[0] if args else ()
        if not isinstance(parts, (list, tuple)) or len(parts) != 2:
            return False
        if parts[0] is self._doubling[0][0] and parts[1] is self._doubling[0][1]:
            self._doubling.pop(0)
            return True
        return False

    def _wire(self, name: str, tensor: torch.Tensor, edge: GradientEdge) -> Wire | None:
        """The wire of a tensor that an op or module takes; code that made it unobserved becomes a call of its own."""
        return self._by_edge.get(edge) or self._discover(name, tensor, edge)

    def _wires(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> list[tuple[str, Wire]]:
        return [(made[0], wire) for made in _graph_tensors(tensors) if (wire := self._wire(*made)) is not None]

    def _discover(self, argument: str, tensor: torch.Tensor, edge: GradientEdge) -> Wire | None:
        found = consumptions([edge], self._by_edge)
        if not found:
            return None
        sources = list(dict.fromkeys(self._by_edge[source] for _node, _slot, source in found))
        # A node of the exact rules without an observed op around it stands for a custom autograd function.
        node = edge[0]
        name = node.name() if self.rule_of_node(node) is None else "custom function"
        if len(sources) == 1 and name.startswith(_RESHAPING_NODES):
            self._record_reshaping(sources[0], [(argument, tensor, edge)])
            return self._by_edge[edge]
        path = f"{self._stack[-1].path}/{name}"
        taken = [(f"args.{index}", wire) for index, wire in enumerate(sources)]
        call = self._open(path, "unobserved", name, source_line(), "autograd", leaf=True, arguments=taken)
        self._record_results(call, [(argument, tensor, edge)])
        self._close(call)
        return self._by_edge[edge]

    def _adopt_base(self, view: torch.Tensor, base: torch.Tensor) -> None:
        """Make a wire of the base of a view that is about to be overwritten, if the call returned only the view.

        `nn.Linear` on three axes returns a view of the matrix product; `y /= 2` then moves the history to the product.
        """
        edge, found = gradient_edge(base), self._wires([("0", view)])
        if edge is None or edge in self._by_edge or not found:
            return
        ((_name, taken),) = found
        origin = taken.base
        if origin.producer is None:
            return
        assert self.observation is not None
        wire = self._add(base, edge, origin.producer, "0", source=("0", origin))
        wire.shown = True
        self._multipliers.watch(edge, wire)
        producer = self.observation.calls[origin.producer]
        producer.results = [(name, wire if result is origin else result) for name, result in producer.results]
        origin.parent, origin.producer = wire, None
        use = Use(wire, producer.parent or 0, "", reshaping=True)
        self.observation.uses.append(use)
        view_edge = next(known for known, known_wire in self._by_edge.items() if known_wire is origin)
        for node, slot, _edge in consumptions([view_edge], {edge}):
            self._multipliers.note_sent(node, [(slot, use)])

    def _keep_value(self, tensor: torch.Tensor, writer: str) -> None:
        """Copy the values in this tensor's memory, which the op or module `writer` is about to overwrite."""
        for wire in self._live.copy(tensor):
            maker = None if wire.producer is None or self.observation is None else self.observation.calls[wire.producer]
            if maker is not None and maker.rule == "captum" and writer:
                self._note(
                    Note("overwritten output", maker.path, maker.number, f"by {writer} in place", source=source_line())
                )

    def _note(self, note: Note | None) -> None:
        if note is not None and self.observation is not None:
            self.observation.notes.append(note)

    def _take_arguments(self, given: Iterable[tuple[str, torch.Tensor]], watched: bool) -> list[tuple[str, Wire]]:
        self._references = self.log.next() if self.log else {}
        found = []
        for name, tensor, edge in _graph_tensors(given):
            if (wire := self._wire(name, tensor, edge)) is not None:
                if watched:
                    self._multipliers.watch(edge, wire)
                found.append((name, wire))
        return found

    def _note_results(self, call: ObservedCall, results: list[GraphTensor]) -> None:
        for name, tensor, edge in results:
            if (wire := self._wire(name, tensor, edge)) is not None:
                self._multipliers.watch(edge, wire)
                call.give(name, wire)

    def _record_results(self, call: ObservedCall, results: list[GraphTensor]) -> None:
        """Note the results of a leaf call, and have every multiplier noted that passes through it."""
        uses = {wire: Use(wire, call.index, name, overrides=call.rule == "captum") for name, wire in call.arguments}
        fresh = [edge for _name, _tensor, edge in results if edge not in self._by_edge]
        reached = self._multipliers.attach(fresh, uses, call.index, call)
        source = call.arguments[0] if call.arguments else None
        for name, tensor, edge in results:
            wire = self._by_edge.get(edge)
            if wire is None and reached:
                wire = self._add(tensor, edge, call.index, name, source=source)
            if wire is not None:
                self._multipliers.watch(edge, wire)
                call.give(name, wire)
        if len(fresh) > 1:
            self._multipliers.attach_inside(fresh, call.index)


def _graph_tensors(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[GraphTensor]:
    return [(name, tensor, edge) for name, tensor in tensors if (edge := gradient_edge(tensor)) is not None]


def _picks(call: OpCall) -> bool:
    """Whether an op that moves elements has tensors for indices, which may differ between the two runs."""
    return any(name.partition(".")[0] != "0" for name, _tensor in torch_functions.arguments(call))
