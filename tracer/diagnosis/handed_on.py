"""Tensors that one call under captum's rule hands straight to another: what happens there happens to one gradient."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence

from tracer.diagnosis.query_columns import query_columns
from tracer.records import Floats
from tracer.tracefile.columns import Columns
from tracer.tracefile.trace import Trace

_VALUES = ("value_mean", "value_norm", "value_maximum", "reference_norm")
_FIGURES = (*_VALUES, "multiplier_mean", "multiplier_norm")
_RULED_QUERY = f"""SELECT node, direction = 'out' AS made, {", ".join(_FIGURES)} FROM edge
WHERE node IN (SELECT id FROM node WHERE rule = 'captum' OR kind = 'lost') ORDER BY node"""

_Figures = tuple[float, ...]


class HandedOn:
    """Which call under captum's rule takes the very tensor that another such call, or a lost path, gives.

    `to`: the first that does and whose multiplier stays, id → id. `overruled`: those that take the tensor too and whose
    multiplier another rule overwrote. Two edges hold one tensor where the figures of value and reference agree, and of
    the multiplier.
    """

    def __init__(self, trace: Trace, columns: Columns) -> None:
        self.to: dict[int, int] = {}
        self.overruled: dict[int, list[int]] = {}
        made: dict[int, list[_Figures]] = defaultdict(list)
        taken: dict[_Figures, list[int]] = defaultdict(list)
        count = len(columns.parent)
        for node, out, *figures in zip(*query_columns(trace, ("node", "made", *_FIGURES), _RULED_QUERY), strict=True):
            if not 0 <= node < count:
                continue
            if out:
                made[node].append(tuple(figures))
            else:
                taken[tuple(figures)].append(node)
        for node, results in made.items():
            if len(results) != 1:
                continue
            takers = taken.get(results[0], [])
            # A lost path may stand after the call that takes its tensor, where it is the model's own input.
            later = bisect_right(takers, node) if columns.kinds[node] != "lost" else 0
            if later < len(takers):
                self.to[node] = takers[later]
                without = *results[0][: len(_VALUES)], *(None,) * (len(_FIGURES) - len(_VALUES))
                self.overruled[node] = taken.get(without, [])  # type: ignore[arg-type]


def net_leaks(leaks: Floats, allowed: Floats, kinds: Sequence[str], handed_on: HandedOn) -> frozenset[int]:
    """Give all that happens to a gradient which a rule read too early to that rule, in `leaks` (N, E) themselves.

    captum's rule for a module whose output tensor enters another ruled module reads the gradient before the rule for
    that one replaces it. So nothing reads what the latter puts there, or what it overwrites: their leaks are the other
    side of the reader's own, and only the sum of all is real. `allowed` (N,) is added up alike. Returns the calls
    whose multipliers are not read.
    """
    makers: dict[int, list[int]] = defaultdict(list)
    for node, taker in handed_on.to.items():
        makers[taker].append(node)
    unread: set[int] = set()
    for taker, group in sorted(makers.items()):  # the first of a chain first: it reads past what the second does
        readers = [node for node in group if kinds[node] != "lost"]
        if len(readers) != 1 or readers[0] in unread:
            continue
        (reader,) = readers
        others = {taker, *group, *handed_on.overruled[reader]} - {reader}
        unread |= others
        members = sorted(others)
        leaks[reader] += leaks[members].sum(axis=0)
        allowed[reader] += allowed[members].sum()
        leaks[members] = 0.0
    return frozenset(unread)
