"""DeepLIFT multipliers as pure functions on tensors, one family of ops a file.

Notation everywhere: `x` is the input run's tensor, `x_ref` the reference run's, `g` the multiplier that arrives from
above, a slope is Δf/Δx, and "mean" is the mean of both runs. Every function conserves: Σ m·Δx = Σ g·Δy.
"""
