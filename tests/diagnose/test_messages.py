"""What a finding says, word by word."""

from __future__ import annotations

import pytest

import tracer
from tests.diagnose.minimal import CASES

# Kind → (message, advice) on the minimal models.
TEXTS = {
    "unseen-op": (
        "captum has rules for modules only: it does not see the function relu and takes it for linear; 100 % "
        "of the error arises in this call (Σ|self leak| = 0.0381)",
        "call an nn.ReLU module of its own instead, which captum rules, or make it exact with --rule "
        "'relu=exact', or everything with --method exact",
    ),
    "unsupported-module": (
        "captum has no rule for the module type GELU and takes it for linear; 100 % of the error arises in "
        "this call (-0.0298)",
        "make it exact with --rule 'GELU=exact', or everything with --method exact",
    ),
    "softmax-normalised": (
        "captum's rule for nn.Softmax takes one mean, over all rows, heads and examples of the batch, off "
        "every multiplier, though the probabilities of a row depend on the logits of that row alone; 100 % "
        "of the error arises in this call (-0.0533)",
        "make it exact with --rule 'softmax=exact', or everything with --method exact",
    ),
    "dropped-difference": (
        "1 of 4 elements that enter Softmax are equal in input and reference but differ when they come out, "
        "and a rule that works element by element drops what they do to the output (+0.00955); 100 % of the "
        "error arises in this call (+0.00955)",
        "make it exact with --rule 'softmax=exact', or everything with --method exact",
    ),
    "exploding-secant": (
        "nn.Softmax is ruled element by element, though its elements depend on one another: where one hardly "
        "differs from the reference the rule divides by almost nothing, and multipliers grow up to 2 100 "
        "times (590 times in norm); 40 % of the error arises in calls before it that are blown up by this",
        "make it exact with --rule 'softmax=exact', or everything with --method exact",
    ),
    "linearised-product": (
        "mul multiplies two tensors that both change with the input, and captum sends the gradient back as "
        "if each of them changed alone; 100 % of the error arises in this call (+0.266)",
        "make it exact with --rule 'mul=exact', or everything with --method exact",
    ),
    "linearised-norm": (
        "LayerNorm divides by the spread of its input, which is another one in the reference, and captum "
        "takes the whole for linear; 100 % of the error arises in this call (Σ|self leak| = 0.347)",
        "make it exact with --rule 'LayerNorm=exact', or everything with --method exact",
    ),
    "stale-gradient": (
        "tanh (Tanh) hands its output straight to sigmoid (Sigmoid), and captum's rule for the first reads "
        "the gradient there before the rule for the second has replaced it; 100 % of the error arises in "
        "this call (+0.00125)",
        "put something between the two modules that makes a new tensor, such as x.clone(), or use exact "
        "rules: --method exact",
    ),
    "lost-path": (
        "2 calls take the output of first, and captum's rule for relu overwrites the gradient that the "
        "others sent back to it: their paths are lost; 100 % of the error arises in this tensor (-0.263)",
        "give the ruled module a tensor of its own, as relu(h.clone()) for relu(h), or use exact rules: --method exact",
    ),
    "pool-overlap": (
        "the windows of MaxPool1d(kernel_size=4, stride=2) overlap: where several choose the same element, "
        "captum's rule keeps the share of one and drops those of the others; 100 % of the error arises in "
        "this call (Σ|self leak| = 0.178)",
        "use windows that do not overlap (stride = kernel_size), or make it exact with --rule "
        "'MaxPool1d=exact', or everything with --method exact",
    ),
    "batch-coupled": (
        "the attributions of the last example change by 22 % when it is attributed alone: captum's rule for "
        "MaxPool1d takes the first example's gradient wherever input and reference agree",
        "attribute one example at a time, or use exact rules, which know no batch: --method exact",
    ),
    "saturated-output": (
        "the attribution explains a probability of 1 − 3.7e-05 (1.2e-05 at the reference), where softmax is "
        "flat and the attributions vanish; 100 % of the error arises in this call (Σ|self leak| = 1.01)",
        "explain the logit instead: attribute to the model without its last softmax",
    ),
    "discrete-choice": (
        "where picks other elements for the input than for the reference, and no rule leads over such a "
        "jump; 100 % of the error arises in this call (+0.431)",
        "choose a reference for which the model makes the same choice, or read this error as what the choice adds",
    ),
    "unobserved-code": (
        "CubeBackward is code that the recorder cannot see into, such as a custom autograd function, and has "
        "no rule: the plain gradient is sent back through it; 100 % of the error arises in this call (-0.126)",
        "use --method exact, which averages its slope along the way",
    ),
    "differing-constant": (
        "mul takes a tensor that differs between input and reference and that no gradient reaches, such as a "
        "mask or a detached value; what it does to the output is attributed to no input; 100 % of the error "
        "arises in this call (Σ|self leak| = 0.0762)",
        "attribute to that tensor too, let its gradient through, or keep it the same in both runs",
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_words(kind: str) -> None:
    finding = tracer.diagnose(CASES[kind].record())[0]
    assert (finding.message, finding.advice) == TEXTS[kind]
