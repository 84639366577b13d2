"""Records a run as a trace. May import everything below it: tracefile, ledger, exact, analysis, diagnosis."""
