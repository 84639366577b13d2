"""The terminal view of a trace. It reads traces and nothing else: no torch, no model."""
