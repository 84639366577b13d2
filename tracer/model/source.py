"""The line of the user's (or the model library's) code that called an op."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import torch

_INSIDE = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


@cache
def _shown(filename: str) -> str | None:
    """A file's name as traces show it; None for files of torch and of this package."""
    if filename.startswith(_INSIDE) or filename.startswith("<frozen"):
        return None
    for marker in ("site-packages" + os.sep, "dist-packages" + os.sep):
        if marker in filename:
            return filename.rsplit(marker, 1)[1]
    relative = os.path.relpath(filename)
    return filename if relative.startswith("..") else relative


def source_line() -> str | None:
    """ "transformers/models/bert/modeling_bert.py:127 eager_attention_forward": the innermost frame outside torch."""
    frame = sys._getframe(1)
    while frame is not None:
        shown = _shown(frame.f_code.co_filename)
        if shown is not None:
            return f"{shown}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return None
