"""Writes a slice of a tensor to a file of its own: .npy, or .csv with one row of the slice a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tui.model.tensor_source import TensorSource

_FORMATS = {"f": "%.9g", "c": "%.9g", "b": "%d", "i": "%d", "u": "%d"}


def export(source: TensorSource, number: int, path: str, folder: Path, kind: str) -> Path:
    """The file that now holds slice `number`: its name is made of the call's path, the quantity and the slice.

    `kind` is "npy" or "csv"; no file that is there is touched. OSError where the folder cannot be written,
    TraceFileError where the trace is damaged.
    """
    parts = [path or "model", f"{source.edge.direction}{source.edge.slot}", source.quantity]
    parts += map(str, source.index_of(number))
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts)).strip("._")[-120:] or "tensor"
    file, stream = _new(folder, stem, kind)
    with stream:
        blocks = source.blocks(number, 0, source.rows)
        if kind == "npy":
            _write_npy(stream, blocks, source)
        else:
            for block in blocks:
                np.savetxt(stream, block, fmt=_format(block.dtype), delimiter=",")
    return file


def _write_npy(stream: IO[bytes], blocks: Iterator[npt.NDArray[Any]], source: TensorSource) -> None:
    for place, block in enumerate(blocks):
        if place == 0:
            header = {
                "descr": np.lib.format.dtype_to_descr(block.dtype),
                "fortran_order": False,
                "shape": (source.rows, source.columns) if len(source.shape) > 1 else source.shape,
            }
            np.lib.format.write_array_header_1_0(stream, header)
        stream.write(np.ascontiguousarray(block).tobytes())


def _format(dtype: np.dtype[Any]) -> str:
    return "%.17g" if dtype == np.float64 else _FORMATS[dtype.kind]


def _new(folder: Path, stem: str, kind: str) -> tuple[Path, IO[bytes]]:
    """A file that was not there before, open for writing."""
    count = 1
    while True:
        file = folder / f"{stem}{'' if count == 1 else f'-{count}'}.{kind}"
        try:
            return file, file.open("xb")
        except FileExistsError:
            count += 1
