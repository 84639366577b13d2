"""The command line that runs this program in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import tracer

_CODE = "import sys; sys.path.insert(0, {root!r}); from tracer.cli import main; sys.exit(main(sys.argv[1:]))"


def command_line(arguments: Sequence[str]) -> list[str]:
    """The program with other arguments, in the same interpreter and from the same package.

    Unlike `python -m tracer` it ignores a folder named tracer in the working directory.
    """
    root = str(Path(tracer.__file__).resolve().parent.parent)
    return [sys.executable, "-P", "-c", _CODE.format(root=root), *arguments]
