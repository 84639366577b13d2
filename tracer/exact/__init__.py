"""Attributions by exact rules: the reference's run, the input's run, one backward pass. May import model and rules."""
