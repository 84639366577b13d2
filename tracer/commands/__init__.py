"""The commands of `deeplift-tracer`, a module each: `add` describes the arguments, `run` does the work.

A command prints data to standard output and talk to standard error, and raises `TracerError` for what a user got wrong.
Nothing heavy is imported before `run`.
"""
