"""Pure folds of a trace that several views share. May import tracefile and rules.rulebook; no torch."""
