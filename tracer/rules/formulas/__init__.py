"""Multipliers as pure functions on tensors, one family of ops a file. Imports torch only."""
