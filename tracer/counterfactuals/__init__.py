"""Runs an attribution again with other rules. May import recording and what is below it."""
