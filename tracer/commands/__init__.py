"""The commands of `deeplift-tracer`, a module each: `add` describes the arguments, `run` does the work.

A command prints data to standard output and talk to standard error, and raises `TracerError` for what a user got wrong.
Nothing heavy is imported before `run`. May import everything, of `tui` its app.
"""

from __future__ import annotations

import pkgutil

SHARED = {"arguments", "out_of_memory", "output_file", "subject_options", "subprocess_line", "terminal"}
"""The modules here that are not commands."""
_ORDER = ("demo", "trace", "view", "report", "diff", "repair", "check", "export")
"""In the help; any other command comes after these."""


def names() -> list[str]:
    """The commands: the modules of this folder but for the shared ones."""
    found = {module.name for module in pkgutil.iter_modules(__path__)} - SHARED
    return [*(name for name in _ORDER if name in found), *sorted(found.difference(_ORDER))]
