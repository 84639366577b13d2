"""Which rule each op has: formulas, how calls are read, the table, rulebooks. May import text, ops and op_call.

Notation everywhere: `x` is the input run's tensor, `x_ref` the reference run's, `g` the multiplier that arrives from
above, a slope is Δf/Δx, and "mean" is the mean of both runs. Every function conserves: Σ m·Δx = Σ g·Δy.
"""
