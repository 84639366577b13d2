"""Attributes what depends on a choice (mask, order, index, expert) to what decides it. Imports model and rules."""
