"""The trace file: its layout (FORMAT.md describes it), writing and reading. Trace files are untrusted input.

May import text, ops, records and errors; no torch. One exception: `trace` asks report.html for `_repr_html_`.
"""
