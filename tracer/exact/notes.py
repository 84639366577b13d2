"""What the exact rules could not do exactly, one note a call."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.records import NoteKind


@dataclass(slots=True)
class RuleNote:
    """Something about one call that a reader of the attributions must know.

    `kind`: "approximated" (no rule: average Jacobian), "discrete choice" (mask, index or order differs between the
    runs), "differing constant" (an operand that is not attributed to differs between the runs), "cut" (the value goes
    on without a gradient), "unseen" (TorchScript and other code that no function mode sees), "coupled examples" (rows
    of the input reach one another's outputs), "non-tensor output" (of several tensors the first is explained),
    "decided" (a choice that the input makes).

    `amount`: of choices Σ |flow| into them, of coupled examples the largest |delta| of a row; of others the leak
    Σ m·Δx − Σ g·Δy where the operands of both runs are at hand, else the number of elements that differ.
    """

    path: str
    op: str
    source: str
    rule: str
    kind: NoteKind
    amount: float
