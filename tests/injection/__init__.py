"""Faults injected into exact runs, one a time: whether `diagnose` names the call and the kind."""
