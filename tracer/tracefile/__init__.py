"""The trace file: its layout, writing and reading. May import text, ops, records and errors; no torch."""
