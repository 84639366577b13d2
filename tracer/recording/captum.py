"""Which non-linear calls captum ruled, and which it took for linear without a word."""

from __future__ import annotations

import sys
from collections import Counter

from tracer.ledger.wires import Call, Observation
from tracer.records import HookReport

_LINEAR = {
    "Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Dropout",
    "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "Identity", "Flatten", "Unflatten", "Embedding",
    "AvgPool1d", "AvgPool2d", "AvgPool3d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d",
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "ZeroPad2d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
    "Upsample", "PixelShuffle",
    "linear", "add", "sub", "rsub", "neg", "cat", "stack", "hstack", "vstack", "sum", "mean", "cumsum", "pad", "to",
    "float", "half", "double", "bfloat16", "type_as", "dropout", "embedding", "setitem", "conv1d", "conv2d", "conv3d",
    "addmm", "baddbmm", "index_add", "index_copy", "scatter", "gather", "masked_fill", "where", "tril", "triu",
    "fill", "zero", "copy",
}  # fmt: skip
# Linear as long as only one operand comes from the input.
_PRODUCTS = {"mul", "matmul", "bmm", "mm", "mv", "dot", "div", "einsum", "rmatmul"}


def hook_report(observation: Observation, version: str) -> HookReport:
    """The non-linear calls of a captum run, counted by type: those that captum ruled and those it took for linear."""
    hooked: Counter[str] = Counter()
    unhooked: Counter[str] = Counter()
    for call in observation.calls:
        if call.rule == "captum":
            hooked[call.type] += 1
        elif call.leaf and not is_linear(call):
            unhooked[call.type] += 1
    captum = sys.modules.get("captum")
    place = "" if captum is None else str(next(iter(captum.__path__), ""))
    return HookReport(version, place, dict(hooked), dict(unhooked))


def is_linear(call: Call) -> bool:
    """Whether a call is linear in what comes from the input: known types, and products with a constant."""
    operands = {wire for _name, wire in call.arguments}
    return call.type in _LINEAR or (call.type in _PRODUCTS and len(operands) <= 1)
