"""Words that several findings share. Pure: figures in, text out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tracer.diagnosis.evidence import Evidence
from tracer.text import clean, figure, percentage

_ONE_SIGN = 0.99


def calls(count: int) -> str:
    """ "1 call", "6 calls"."""
    return f"{count} call{'s' if count != 1 else ''}"


def number(value: float) -> str:
    """A count or a size in two significant digits: "12", "0.71", "10 000"."""
    return figure(float(f"{value:.2g}"))


def amount(value: float, signed: bool = False) -> str:
    """A size in three significant digits: "0.718", "+0.718" where `signed`."""
    return figure(float(f"{value:.3g}"), signed)


def weight(evidence: Evidence, nodes: Sequence[int]) -> str:
    """What the calls add to the delta: "47 % of the error arises in these 6 calls (+31.7 in sum)".

    Where their self leaks cancel, over calls or examples, Σ|self leak| stands instead of their sum.
    """
    share = evidence.share(nodes)
    part = "the error arises" if math.isnan(share) else f"{percentage(share)} of the error arises"
    where, how = ("this call", "") if len(nodes) == 1 else (f"these {len(nodes)} calls", " in sum")
    total, size = (float(values[list(nodes)].sum()) for values in (evidence.self_leak, evidence.size))
    if abs(total) < _ONE_SIGN * size:
        return f"{part} in {where} (Σ|self leak| = {amount(size)})"
    return f"{part} in {where} ({amount(total, signed=True)}{how})"


def taker(evidence: Evidence) -> str:
    """Who treats an op as linear: captum, or the rulebook of the run."""
    return "captum" if evidence.trace.run.method == "captum" else "the rulebook"


def exact(evidence: Evidence, *patterns: str) -> str:
    """The advice to rule the calls that some patterns fit exactly, or all: as options of the command line."""
    rules = " ".join(f"--rule '{clean(pattern)}=exact'" for pattern in dict.fromkeys(patterns))
    return f"make it exact with {rules}, {or_exact(evidence, 'or everything with --method exact')}"


def or_exact(evidence: Evidence, advised: str = "or use exact rules: --method exact") -> str:
    """`advised`, where that is method exact; in a run that has it, to leave out what keeps it from being exact."""
    return "or leave out the rules that are not exact" if evidence.trace.run.method == "exact" else advised
