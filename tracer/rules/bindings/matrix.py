"""How calls that invert matrices are read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tracer.op_call import OpCall
from tracer.rules.call import Binder, BoundCall, Gs, arrived, bound
from tracer.rules.formulas.inverse import inverse


def _inverse(call: OpCall) -> BoundCall | None:
    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> tuple[Tensor]:
        return (inverse(arrived(gs), torch.linalg.inv(xs[0]), torch.linalg.inv(x_refs[0])),)

    return bound(call, [call.place(0, "input", "A", "self")], multipliers)


MATRICES: dict[str, Binder] = dict.fromkeys(("linalg_inv", "linalg_inv_ex", "inverse"), _inverse)
