"""Reads multipliers off the autograd graph: hooks on its nodes note what each use sends back, and what arrives.

The hooks return nothing, so they change no gradient; `tracer.model.autograd` says why they are on autograd's own nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch.autograd.graph import Node

from tracer.ledger.settling import Settling
from tracer.ledger.wires import Observation, ObservedCall, Use, Wire
from tracer.model.autograd import GradientEdge, consumptions
from tracer.recording.journal import Journal


class Multipliers:
    """Notes the multipliers of one observation, and has each wire settled when its own has arrived.

    `wires` are the wires of the forward pass by their place in the autograd graph. `rule_of_node` names the rule behind
    a graph node (None: autograd), `journal` is told how far the backward pass is.
    """

    def __init__(self, rule_of_node: Callable[[Node], str | None], journal: Journal | None) -> None:
        self.wires: dict[GradientEdge, Wire] = {}
        self._rule_of_node = rule_of_node
        self._journal = journal
        self._observation: Observation | None = None
        self._settling: Settling | None = None
        self._forward_pass = False

    def begin(self, observation: Observation, settling: Settling) -> None:
        """The forward pass begins."""
        self._observation, self._settling, self._forward_pass = observation, settling, True

    def end_forward_pass(self) -> None:
        """From here on gradients are multipliers; before, they are of backward passes that the model makes itself."""
        self._forward_pass = False
        self.wires.clear()

    def watch(self, edge: GradientEdge | None, wire: Wire) -> None:
        """Have the multiplier noted that finally arrives at a wire's tensor, after all hooks on the tensor."""
        if wire.watched:
            return
        wire.watched = True
        if edge is not None:
            node, output = edge
            node.register_prehook(partial(Multipliers._arrive, self, wire, output))

    def attach(
        self, results: Sequence[GradientEdge], uses: Mapping[Wire, Use], index: int, call: ObservedCall | None = None
    ) -> bool:
        """Have the gradient noted that each use sends back, at the graph nodes between `results` and the used wires.

        A wire that is used without being in `uses` becomes a use of call number `index`. `call` is given the rule
        behind the nodes. False if there are no such nodes: the results do not depend on the model's input.
        """
        assert self._observation is not None
        self._observation.uses.extend(uses.values())
        captured: dict[Wire, Use] = {}  # from a closure, or as the base of a view: not among the arguments
        slots: dict[Node, list[tuple[int, Use]]] = {}
        for node, slot, edge in consumptions(results, self.wires):
            wire = self.wires[edge]
            use = uses.get(wire) or captured.setdefault(wire, Use(wire, index, "captured"))
            slots.setdefault(node, []).append((slot, use))
            rule = self._rule_of_node(node)
            if rule is not None and call is not None:
                call.rule = rule
        for wire, use in captured.items():
            wire.shown = True
            self._observation.uses.append(use)
        for node, taken in slots.items():
            self.note_sent(node, taken)
        return bool(slots)

    def attach_inside(self, results: Sequence[GradientEdge], index: int) -> None:
        """Have the gradients noted that one result of call number `index` sends to another one, inside the call.

        `nn.LSTMCell` computes h from the c that it gives too.
        """
        assert self._observation is not None
        made = frozenset(results)
        for node, slot, edge in consumptions(results, self.wires):
            if edge in made:
                use = Use(self.wires[edge], index, "inside")
                self._observation.uses.append(use)
                self.note_sent(node, [(slot, use)])

    def note_sent(self, node: Node, slots: list[tuple[int, Use]]) -> None:
        """Have the gradients noted that a graph node sends back; the inputs numbered in `slots` belong to uses."""
        node.register_hook(partial(Multipliers._sent, self, slots))

    def _arrive(self, wire: Wire, number: int, gradients: tuple[torch.Tensor | None, ...]) -> None:
        """A gradient arrives at output `number` of the graph node that made the tensor of `wire`."""
        if wire.settled or wire.multiplier is not None or self._forward_pass:
            return  # another backward pass: a later one, or one that the model makes in its forward pass
        wire.multiplier = _dense(gradients[number])
        if self._settling is not None:
            self._settling.settle(wire)
        if self._journal is not None and self._observation is not None:
            self._journal.backward(self._observation)

    def _sent(self, slots: list[tuple[int, Use]], gradients: tuple[torch.Tensor | None, ...], _outputs: object) -> None:
        """A graph node sends gradients back to its inputs."""
        for slot, use in slots:
            gradient, wire = _dense(gradients[slot]), use.wire
            if gradient is None or wire.settled or wire.multiplier is not None or self._forward_pass:
                continue  # as in `_arrive`
            use.multiplier = gradient if use.multiplier is None else use.multiplier + gradient


def _dense(gradient: torch.Tensor | None) -> torch.Tensor | None:
    """A gradient to compute with: `torch.gather(..., sparse_grad=True)` sends back a sparse one."""
    return gradient if gradient is None or gradient.layout is torch.strided else gradient.to_dense()
