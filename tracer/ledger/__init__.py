"""Hands out the convergence delta to the calls that made it. May import model and rules."""
