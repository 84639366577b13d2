"""How to read each screen, for the help: what its columns, colours and marks mean."""

from __future__ import annotations

from collections.abc import Mapping

from tracer.analysis.verdict import HOLDS
from tui.actions import Scope
from tui.lines.compare import ONLY_A, ONLY_B
from tui.lines.flow import FLIP, OFF_SHARE

Reading = tuple[tuple[str, str], ...]

READING: Mapping[Scope, Reading] = {
    "flow": (
        (
            "cell",
            "Σ m·Δ over everything but the tokens' axis, at the layer's output: the part of the output's change that "
            "this token's place carries after this layer, by the multipliers that DeepLIFT sends back",
        ),
        (
            "row sum",
            "what the layer's output carries in all. With exact rules every row of a plain stack of layers sums to "
            f"f(x)-f(x'); a sum that is off by {OFF_SHARE:.0%} or more stands out, and the leak lies behind that row",
        ),
        ("column sum", "the same token over all layers"),
        ("heat", "sign and shade by the largest of the row, or of the whole map (key s); a dot is under 2 % of it"),
        (FLIP, "the token's sign is another than in the last layer before in which it mattered"),
    ),
    "tokens": (
        ("text", "each token painted by its score, with + or - in front where it matters; pieces of a word joined"),
        ("▲", "there is something known against this method on this text: see the warnings below"),
        ("cosine", "of the angle between two methods' scores: 1 the same, 0 nothing in common, -1 the contrary"),
        ("rank", "Spearman's rank correlation of the two orders of the tokens"),
    ),
    "heads": (
        ("leak", "a head's part of the call's leak: Σ m·Δ going in less Σ m·Δ coming out, over its own elements"),
        ("gain", "‖m in‖ / ‖m out‖ of the head: above 1 it makes multipliers larger"),
        ("matrices", "of the selected head, queries down and keys across; each has colours of its own scale"),
        ("fused", "scaled_dot_product_attention keeps its probabilities to itself; --explicit softmax records them"),
    ),
    "tensor": (
        ("cell", "its element of the largest |value|, with that element's sign: a bad one is never averaged away"),
        ("colours", "in proportion to the slice's largest |value|, or over four decades of it (key s)"),
        ("? ∞ NN +i", "NaN and infinite; a cell with a NaN shows nothing else"),
        ("+9 -4", "instead of colours (key #): the sign, and the size in ninths of the scale"),
        ("histogram", "from the least to the largest finite value; a bar's height is the logarithm of its count"),
    ),
    "findings": (
        ("share", "Σ|self leak| of the calls that show the fault, of Σ|self leak| of all calls"),
        ("delta after", "the delta measured with these calls made exact; - where that was not measured"),
        ("└", "a symptom: making the finding above it exact removes it"),
    ),
    "repair": (
        ("ladder", "runs of the same attribution with more and more calls made exact: measured, not estimated"),
        ("on its own", "one change alone, on the run as recorded: leaks of opposite sign may cancel in that"),
        ("bar", "|delta| / |f(x)-f(x')| on one logarithmic scale"),
        ("✔", f"the attributions add up: that share is {HOLDS:.1%} or less"),
    ),
    "compare": (
        (
            "leak",
            "of an open call its self leak, of a closed one that of all inside it: what is seen sums to the delta",
        ),
        ("B − A", "the difference; a call that only one trace has counts as 0 in the other"),
        (f"{ONLY_A} {ONLY_B}", "only A, or only B, has this call"),
        ("bar", "B − A, to the left if negative; logarithmic over four decades"),
    ),
}
