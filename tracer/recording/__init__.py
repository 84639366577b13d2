"""Records one attribution as a trace. May import diagnosis, analysis, tracefile, ledger, exact and what is below them.

`record` and `watch` are the public functions. `recorder` notes calls and wires, `multipliers` reads multipliers off the
graph, `run` makes the trace of them; `notes` and `probe` find what no figure shows, `journal` writes during the run.
"""
