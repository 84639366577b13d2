"""Names the faults that a trace shows. May import analysis and tracefile; no torch."""
