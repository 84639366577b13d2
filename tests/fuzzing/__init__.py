"""Fuzzing of trace files: `python -m tests.fuzzing --files 10000 --seed 0`."""
