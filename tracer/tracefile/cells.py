"""How a value is kept in one cell of a trace file, and how a cell is checked and read: trace files are untrusted input.

NaN is stored as NULL in number columns, as SQLite itself does; in JSON columns "nan", "inf" and "-inf" are strings, so
that any strict JSON reader takes them. Number arrays are little-endian float64 blobs, one number an example. In an edge
the hash of a tensor is NULL where there is none and empty where it was left out for lack of room.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import xxhash

from tracer.records import Floats
from tracer.tracefile.layout import VERSION

MISSHAPEN = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError)
"""What decoding raises where a cell is not what it must be."""

# What sqlite3 takes and gives for one cell.
Cell: TypeAlias = Any

ITEM_TYPES = {
    "bool": "?", "uint8": "u1", "int8": "i1", "int16": "<i2", "int32": "<i4", "int64": "<i8", "uint16": "<u2",
    "uint32": "<u4", "uint64": "<u8", "float16": "<f2", "float32": "<f4", "float64": "<f8", "complex64": "<c8",
    "complex128": "<c16", "bfloat16": "<u2",
}  # fmt: skip
"""numpy's code for the stored bytes of each tensor dtype; bfloat16 is read as its 16 bits and widened."""


def tensor_bytes(dtype: str, shape: Sequence[int]) -> int:
    """How many bytes the elements of a tensor take; KeyError for a dtype that is not stored."""
    return np.dtype(ITEM_TYPES[dtype]).itemsize * math.prod(shape)


def pack(numbers: Floats) -> bytes:
    """One float64 an example as little-endian bytes."""
    return np.ascontiguousarray(numbers, dtype="<f8").tobytes()


def unpack(blob: Cell) -> Floats:
    """What `pack` wrote, as an array of its own."""
    if not isinstance(blob, bytes):
        raise TypeError("numbers are not a blob")
    return np.frombuffer(blob, dtype="<f8").astype(np.float64)


@lru_cache(maxsize=1024)
def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as its column has it, "[2, 3]"."""
    return str(list(shape))


def parse_shape(value: object) -> tuple[int, ...]:
    """A shape from decoded JSON, one that an array can have: at most 64 sizes, none negative, no absurd product."""
    if not isinstance(value, list) or len(value) > 64 or not all(type(size) is int and size >= 0 for size in value):
        raise ValueError("a shape is not a list of sizes")
    if math.prod(size for size in value if size) > 2**48:  # numpy refuses such a shape even where a 0 makes it empty
        raise ValueError("a shape is too large")
    return tuple(value)


def content_hash(data: memoryview | bytes, dtype: str, shape: tuple[int, ...], version: int = VERSION) -> bytes:
    """16 bytes that name a tensor by its dtype, shape and elements.

    XXH3 since version 2: hashing with blake2b took longer than anything else in recording a trace.
    """
    head = f"{dtype}{list(shape)}".encode()
    digest = hashlib.blake2b(head, digest_size=16) if version == 1 else xxhash.xxh3_128(head)
    digest.update(data)
    return digest.digest()


def storable(value: str) -> str:
    """`value` without lone surrogates, which an odd byte on the command line leaves and UTF-8 cannot hold."""
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")


def storable_or_null(value: str | None) -> str | None:
    """The same for a text that may be missing."""
    return None if value is None else storable(value)


def text(value: object) -> str:
    """`value`, which must be a string."""
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text must be")
    return value


def text_or_none(value: object) -> str | None:
    """`value`, which must be a string or NULL."""
    return None if value is None else text(value)


def whole(value: object) -> int:
    """`value` from JSON, which must be a whole number."""
    if type(value) is not int:
        raise TypeError(f"{type(value).__name__} where a whole number must be")
    return value


def number(value: Cell) -> float:
    """A float from a cell (NULL: NaN) or from JSON (a number, "nan", "inf" or "-inf")."""
    return math.nan if value is None else float(value)


def json_number(value: float) -> float | str:
    """`value` as strict JSON takes it: itself, or "nan", "inf" or "-inf"."""
    return float(value) if math.isfinite(value) else str(float(value))
