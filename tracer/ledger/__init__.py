"""Hands out the convergence delta to the calls that made it. May import model, rules, ops and records.

The words, in the order in which data passes:

- wire: one tensor value between calls, known in both runs; Δ = value − reference.
- use: one call takes one wire.
- role: a wire is the argument, or the result, number `slot` of a call. Each role becomes one edge of the trace.
- multiplier: the gradient that DeepLIFT sends back. A use's is what this use alone sends; a wire's is what arrives at
  the call that made it, after every hook on the tensor.
- flow: Σ multiplier · Δ, float64, one number per example.
- leak: of a call, the flow of its arguments minus the flow of its results.

The leaks of all calls sum to the convergence delta: `rows` says why. `wires` holds what the recorder notes, `settling`
turns it into figures as soon as the multipliers are known, `rows` makes the trace's nodes and edges of them.
"""
