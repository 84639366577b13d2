"""For each fault a minimal case: a model that has it, a clean twin that differs in the fault alone, and its texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from captum.attr import DeepLift
from torch import nn

from tests.diagnose.case import Case
from tests.diagnose.models import (
    Between,
    Chain,
    Classifier,
    CubeLayer,
    Ending,
    Explosion,
    Gate,
    Pooled,
    PooledPairs,
    RootMeanSquareNorm,
    Skip,
    SkippedView,
    masked_softmax,
    normal,
    swapped,
)
from tests.diagnose.run_models import (
    Embedded,
    Functional,
    Graph,
    Halved,
    Hooked,
    Indexed,
    Keyword,
    Lost,
    Masked,
    Net,
    NoGrad,
    OtherWithoutGrad,
    Reused,
    Subclassed,
    TwoRows,
    Wrapped,
    watched,
)
from tracer.records import FindingKind

_PAIRS, _ONES = normal(3, 8, seed=3), torch.ones(2, 4)

LEAKING: dict[FindingKind, Case] = {
    "unseen-op": Case(
        lambda: Between(F.relu),
        lambda: Between(nn.ReLU()),
        message=(
            "captum has rules for modules only: it does not see the function relu and treats it "
            "as linear; 100 % of the error arises in this call (Σ|self leak| = 0.0381)"
        ),
        advice=(
            "call an nn.ReLU module of its own instead, which captum rules, or make it exact with --rule "
            "'relu=exact', or everything with --method exact"
        ),
    ),
    "unsupported-module": Case(
        lambda: Between(nn.GELU()),
        lambda: Between(nn.Softplus()),
        message=(
            "captum has no rule for the module type GELU and treats it as linear; 100 % of the error "
            "arises in this call (-0.0298)"
        ),
        advice="make it exact with --rule 'GELU=exact', or everything with --method exact",
    ),
    "softmax-normalised": Case(
        lambda: Between(nn.Softmax(-1)),
        repaired="softmax",
        message=(
            "captum's rule for nn.Softmax takes one mean, over all rows, heads and examples of the batch,"
            " off every multiplier, though the probabilities of a row depend on the logits of that row "
            "alone; 100 % of the error arises in this call (-0.0533)"
        ),
        advice="make it exact with --rule 'softmax=exact', or everything with --method exact",
    ),
    "dropped-difference": Case(
        lambda: Ending(nn.Softmax(-1)),
        repaired="softmax",
        x=torch.tensor([[2.0, 1.0, 0.5, -1.0]]),
        baseline=torch.tensor([[0.0, 1.0, 1.5, 0.0]]),
        message=(
            "1 of 4 elements that enter Softmax are equal in input and reference but differ when they "
            "come out, and a rule that works element by element drops what they do to the output "
            "(+0.00955); 100 % of the error arises in this call (+0.00955)"
        ),
        advice="make it exact with --rule 'softmax=exact', or everything with --method exact",
    ),
    "exploding-secant": Case(
        Explosion,
        repaired="*",
        message=(
            "nn.Softmax is ruled element by element, though its elements depend on one another: where one"
            " hardly differs from the reference the rule divides by almost nothing, and multipliers grow "
            "up to 2 100 times (590 times in norm); 40 % of the error arises in calls before it that are "
            "blown up by this"
        ),
        advice="make it exact with --rule 'softmax=exact', or everything with --method exact",
    ),
    "linearised-product": Case(
        lambda: Gate(False),
        lambda: Gate(True),
        message=(
            "mul multiplies two tensors that both change with the input, and captum sends the gradient "
            "back as if each of them changed alone; 100 % of the error arises in this call (+0.266)"
        ),
        advice="make it exact with --rule 'mul=exact', or everything with --method exact",
    ),
    "linearised-norm": Case(
        lambda: Between(nn.LayerNorm(6)),
        repaired="LayerNorm",
        message=(
            "LayerNorm divides by the spread of its input, which differs in the reference, and "
            "captum treats the call as linear; 100 % of the error arises in this call (Σ|self leak| = "
            "0.347)"
        ),
        advice="make it exact with --rule 'LayerNorm=exact', or everything with --method exact",
    ),
    "stale-gradient": Case(
        lambda: Chain(False),
        lambda: Chain(True),
        message=(
            "tanh (Tanh) hands its output straight to sigmoid (Sigmoid), and captum's rule for the first "
            "reads the gradient there before the rule for the second has replaced it; 100 % of the error "
            "arises in this call (+0.00125)"
        ),
        advice=(
            "put something between the two modules that makes a new tensor, such as x.clone(), or use "
            "exact rules: --method exact"
        ),
    ),
    "lost-path": Case(
        lambda: Skip(False),
        lambda: Skip(True),
        message=(
            "2 calls take the output of first, and captum's rule for relu overwrites the gradient that "
            "the others sent back to it: their paths are lost; 100 % of the error arises in this tensor "
            "(-0.263)"
        ),
        advice=(
            "give the ruled module a tensor of its own, as relu(h.clone()) for relu(h), or use exact "
            "rules: --method exact"
        ),
    ),
    "pool-overlap": Case(
        lambda: Pooled(4, 2),
        lambda: Pooled(2, 2),
        x=normal(2, 12, seed=5),
        baseline=normal(2, 12, seed=6),
        message=(
            "the windows of MaxPool1d(kernel_size=4, stride=2) overlap: where several choose the same "
            "element, captum's rule keeps the share of one and drops those of the others; 100 % of the "
            "error arises in this call (Σ|self leak| = 0.178)"
        ),
        advice=(
            "use windows that do not overlap (stride = kernel_size), or make it exact with --rule "
            "'MaxPool1d=exact', or everything with --method exact"
        ),
    ),
    "batch-coupled": Case(
        PooledPairs,
        repaired="MaxPool1d",
        x=_PAIRS,
        baseline=swapped(_PAIRS),
        message=(
            "the attributions of the last example change by 22 % when it is attributed alone: captum's "
            "rule for MaxPool1d takes the first example's gradient wherever input and reference agree"
        ),
        advice="attribute one example at a time, or use exact rules, which know no batch: --method exact",
    ),
    "saturated-output": Case(
        lambda: Classifier(True),
        lambda: Classifier(False),
        message=(
            "the attribution explains a probability of 1 − 3.7e-05 (1.2e-05 at the reference), where "
            "softmax is flat and the attributions vanish; 100 % of the error arises in this call (Σ|self "
            "leak| = 1.01)"
        ),
        advice="explain the logit instead: attribute to the model without its last softmax",
    ),
    "discrete-choice": Case(
        lambda: Between(lambda h: torch.where(h > 0, h, 0.1 * h + 1)),
        lambda: Between(lambda h: torch.where(h > -99, h, 0.1 * h + 1)),
        message=(
            "where picks different elements for the input and for the reference, and the gradient does not see "
            "the jump; 100 % of the error arises in this call (+0.431)"
        ),
        advice="make it exact with --rule 'where=exact', or everything with --method exact",
    ),
    "unobserved-code": Case(
        lambda: Between(CubeLayer()),
        lambda: Between(nn.Identity()),
        message=(
            "CubeBackward is code that the recorder cannot see into, such as a custom autograd function, "
            "and has no rule: the plain gradient is sent back through it; 100 % of the error arises in "
            "this call (-0.126)"
        ),
        advice="use --method exact, which averages its slope along the way",
    ),
    "differing-constant": Case(
        lambda: Between(lambda h: h * h.detach().sign()),
        lambda: Between(lambda h: h * h.detach().new_ones(1)),
        message=(
            "mul takes a tensor that differs between input and reference and that no gradient reaches, "
            "such as a mask or a detached value; what it does to the output is attributed to no input; "
            "100 % of the error arises in this call (Σ|self leak| = 0.0762)"
        ),
        advice="attribute to that tensor too, let its gradient through, or keep it the same in both runs",
    ),
}
"""What a trace shows by the leaks of its calls."""

OF_RUNS: dict[FindingKind, Case] = {
    "decided": Case(
        lambda: Between(lambda h: torch.where(h > 0, h, 0.1 * h + 1)),
        lambda: Between(lambda h: torch.where(h > -99, h, 0.1 * h + 1)),
        method="exact",
        message=(
            "1.936 of attribution, against a change of the output of 0.2993, goes through choices that the input makes "
            "(gt): masks, orders, indices or experts that differ between input and reference"
        ),
        advice=(
            "nothing is wrong: the attribution to what decides is part of the sum; for less of it, choose a reference "
            "for which the model makes the same choices"
        ),
    ),
    "coupled-examples": Case(
        lambda: Graph(True),
        lambda: Graph(False),
        method="exact",
        message=(
            "the rows of the input reach one another's outputs: each row's attributions explain all 2 outputs, so a "
            "row has a delta of up to 0.1618 against its own, and only their sum, -1.19e-07, says how well the "
            "attributions add up"
        ),
        advice=(
            "give the rows as one example (x[None], and the output that is to be explained summed or picked), or read "
            "the sum over the rows"
        ),
    ),
    "integer-input": Case(
        Embedded,
        Case(Net),
        x=torch.ones(2, 5, dtype=torch.long),
        baseline=None,
        message="the input has dtype int64, which has no differences to share out",
        advice="attribute to the output of embedding instead of to token ids",
    ),
    "non-tensor-output": Case(
        Lost,
        Wrapped,
        message="the model returns a dict of loss, and captum takes a tensor only",
        advice=(
            "wrap the model in a module that returns its logits, or record it with tracer.record, which unwraps them"
        ),
    ),
    "keyword-call": Case(
        Keyword,
        Net,
        message="captum sees positional inputs only: act, ReLU called with input=... and no positional argument",
        advice="pass the input by position, or use method exact",
    ),
    "no-grad-call": Case(
        NoGrad,
        Net,
        message="captum needs a gradient at every module that it rules: act, ReLU runs under torch.no_grad()",
        advice=(
            "let its gradient through: a function instead of the module, or method exact, would run, but nothing that "
            "goes this way would be attributed"
        ),
    ),
    "reused-module": Case(
        Reused,
        Net,
        message="act (ReLU) runs 2 times, and captum keeps one input and one output a module",
        advice="give each call a module of its own, or use method exact, which takes a module as often as it runs",
    ),
    "in-place-target": Case(
        Indexed,
        lambda: Indexed(return_indices=False),
        message="pool returns its indices too, and captum's hooks take one output",
        advice="make the pool with return_indices=False, or use method exact",
    ),
    "hook-skipped": Case(
        Hooked,
        Net,
        message="captum skips act and treats it as linear: ReLU has the backward hook looking",
        advice="remove the hook before attributing",
    ),
    "subclass-ignored": Case(
        Subclassed,
        Net,
        message="captum treats act as linear: MyReLU is a ReLU, and captum has rules for the exact types only",
        advice="use nn.ReLU itself, or use method exact",
    ),
    "training-mode": Case(
        Functional,
        lambda: Functional(training=False),
        message=(
            "/dropout is in training mode (dropout with p=0.3): input and reference are given different random masks"
        ),
        advice="call model.eval() first",
    ),
    "half-underflow": Case(
        Halved,
        Case(Net),
        x=normal(2, 4, seed=1).half(),
        baseline=normal(2, 4, seed=2).half(),
        message=(
            "2 multipliers of act2 (ReLU) are NaN or infinite: 2 of its inputs equal the reference's, and captum's eps"
            " of 1e-10 is 0 in half precision"
        ),
        advice="attribute in float32 (model.float()), or use method exact",
    ),
    "non-finite": Case(
        lambda: Between(torch.log),
        lambda: Between(torch.exp),
        method="exact",
        message="/log (log) makes 10 numbers NaN or infinite out of finite ones, in one run or in both",
        advice=(
            "check its parameters, and what it takes: a logarithm or a root of a negative number, a division by "
            "0, or more than float32 (3.4e38) can hold"
        ),
    ),
    "shared-extras": Case(
        Masked,
        Case(Masked, options={"additional_forward_args": _ONES, "baseline_forward_args": _ONES}),
        options={"additional_forward_args": _ONES, "baseline_forward_args": 0 * _ONES},
        message=(
            "captum runs the reference under the input's extra arguments: with its own, f(x') differs by 0.2, 59 "
            "% of f(x) − f(x')"
        ),
        advice="use method exact, which takes baseline_forward_args, or attribute with extras that fit both",
    ),
    "doubled-batch": Case(
        TwoRows,
        Net,
        message=(
            "captum gives the model inputs and references in one batch, of twice the rows, which it cannot take: on 4 "
            "rows it ends with RuntimeError"
        ),
        advice="use method exact, which runs the inputs and the references one after the other",
    ),
    "other-without-grad": Case(
        OtherWithoutGrad,
        Net,
        message=(
            "captum's delta is of runs without gradients, in which the model gives other values than in the run that "
            "is explained: f(x) and f(x') differ by 0.08 in all, 50 % of f(x) − f(x')"
        ),
        advice=(
            "make the model compute the same with and without gradients; nn.TransformerEncoder does after "
            "torch.backends.mha.set_fastpath_enabled(False)"
        ),
    ),
    "no-module": Case(
        Net,
        Case(Net, watched=watched(lambda model: DeepLift(model))),
        watched=watched(lambda model: DeepLift(model.forward)),
        message="DeepLift was given a method forward, and can hook modules only",
        advice=(
            "write what the function does into the forward of an nn.Module that holds the model, and give that to "
            "DeepLift and to tracer.watch"
        ),
    ),
    "other-module": Case(
        Net,
        Case(Net, watched=watched(lambda model: DeepLift(model))),
        watched=watched(lambda model: DeepLift(nn.Sequential(model))),
        message=(
            "DeepLift was given Sequential, which holds the watched Net, as 0: this trace is of what DeepLift was given"
        ),
        advice="give tracer.watch the module that DeepLift is given",
    ),
    "multipliers-returned": Case(
        Net,
        Case(Net, watched=watched(lambda model: DeepLift(model))),
        watched=watched(lambda model: DeepLift(model, multiply_by_inputs=False)),
        message=(
            "captum returned no attributions, which this trace shows, but other numbers (multiply_by_inputs=False; "
            "captum's own delta is -0.001368, 0.04043, that of multipliers × differences -3.725e-09, -8.848e-09): "
            "their sum is not f(x) − f(x')"
        ),
        advice=(
            "for attributions use multiply_by_inputs=True and no custom_attribution_func; otherwise do not read "
            "captum's delta"
        ),
    ),
}
"""Faults that lie in how a run was made."""

CASES = {**LEAKING, **OF_RUNS}

MORE: Sequence[tuple[str, Callable[[], nn.Module], str]] = (
    ("unseen-op", lambda: Between(lambda h: h.softmax(-1)), "softmax"),
    ("unseen-op", lambda: Between(masked_softmax), "softmax"),
    ("unseen-op", lambda: Between(F.gelu), "gelu"),
    ("unseen-op", lambda: Between(torch.exp), "exp"),
    ("unseen-op", lambda: Between(lambda h: 1 / (3 + h.abs())), "*"),
    ("unsupported-module", lambda: Between(nn.SiLU()), "SiLU"),
    ("linearised-product", lambda: Between(lambda h: h * h), "mul"),
    ("linearised-product", lambda: Between(lambda h: (h[:, :, None] @ h[:, None]).sum(1)), "matmul"),
    ("linearised-norm", lambda: Between(RootMeanSquareNorm()), "RootMeanSquareNorm"),
    ("linearised-norm", lambda: Between(nn.RMSNorm(6)), "RMSNorm"),
    ("linearised-norm", lambda: Between(nn.GroupNorm(2, 6)), "GroupNorm"),
    ("lost-path", lambda: SkippedView(False), "relu"),
)
"""Other ways to make a fault: (kind, model, pattern to make exact)."""
