"""Which fault it is where the plain gradient goes through a call, as if the call were linear."""

from __future__ import annotations

import re
from functools import lru_cache

from tracer import ops

# Ops of which normalisations are written out: (x − mean)·rsqrt(var + eps).
_NORM_PARTS = frozenset({"pow", "square", "rsqrt", "sqrt", "reciprocal", "mul", "div", "rdiv"})


@lru_cache(1024)
def norm_of(kind: str, type_name: str, module_type: str) -> str:
    """The name of the normalisation that a call is, or is a part of; "" for none.

    Batch norm is none: it divides by a constant. A module that is named a norm and computes one from other ops is one.
    """
    op = ops.find(type_name)
    if op is not None and op.family == "norm" and op.kind != "linear in evaluation":
        return type_name
    own = kind != "module" and type_name in _NORM_PARTS and re.search(r"Norm([A-Z]\w*|\d?d)?$", module_type)
    return module_type if own and "BatchNorm" not in module_type else ""


@lru_cache(1024)
def linearised_fault(kind: str, name: str, module_type: str, several: bool, observed: bool) -> str:
    """The fault of a leaking call through which the plain gradient went; "" for what ought to be linear.

    `several`: more than one of its operands varies; `observed`: captum itself ran, and rules what is in its table.
    """
    if norm_of(kind, name, module_type):
        return "linearised-norm"
    if ops.jumps(name):
        return ""
    if ops.is_product(name) and several:
        return "linearised-product"
    if ops.is_linear(name):
        return ""
    if kind == "op":
        return "unseen-op"
    return "" if observed and name in ops.CAPTUM_TABLE else "unsupported-module"
