"""Recognises out-of-memory errors."""

from __future__ import annotations

import errno

# The last is CPython's, where there is no memory even for the error.
_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "failed to map segment",
    "without exception set",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's own error, the operating system's, or one in the words of torch."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError | ImportError | SystemError) and any(
        word in str(error).lower() for word in _WORDS
    )
