"""Errors that say that a resource of the machine is used up: nobody's mistake, and no fault in the program."""

from __future__ import annotations

import errno

# The last is CPython's, where it could not make room even for the error.
_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "failed to map segment",
    "without exception set",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's own error, the system's, or one in torch's words, of which it has several."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError | ImportError | SystemError) and any(
        word in str(error).lower() for word in _WORDS
    )
