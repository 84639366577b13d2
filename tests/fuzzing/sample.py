"""A trace file as bytes, with the write-ahead log that may lie beside it, and where the parts of its pages are."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TABLE_LEAF, TABLE_INNER, INDEX_LEAF, INDEX_INNER = 13, 5, 10, 2
_LOG_HEADER, _FRAME_HEADER = 32, 24


@dataclass(frozen=True, slots=True)
class Sample:
    """`name` says which seed it comes from and what was done to it since."""

    name: str
    file: bytes
    log: bytes | None = None

    def write(self, path: Path) -> None:
        """Put the file at `path`, its log beside it, and nothing else."""
        self.remove(path)
        path.write_bytes(self.file)
        if self.log is not None:
            _beside(path, "-wal").write_bytes(self.log)

    @staticmethod
    def remove(path: Path) -> None:
        """Delete the file and what lies beside it."""
        for ending in ("", "-wal", "-shm", "-journal"):
            _beside(path, ending).unlink(missing_ok=True)

    @staticmethod
    def read(name: str, path: Path) -> Sample:
        """The sample of a file on disk."""
        log = _beside(path, "-wal")
        return Sample(name, path.read_bytes(), log.read_bytes() if log.exists() else None)


def page_size(file: bytes) -> int:
    """Bytes of a page as the file's header says, 4096 where that says nothing possible."""
    size = int.from_bytes(file[16:18], "big")
    size = 65_536 if size == 1 else size
    return size if size >= 512 and size & (size - 1) == 0 else 4096


def tree_pages(file: bytes) -> list[tuple[int, int]]:
    """(offset of the page, offset of its b-tree header) of all pages that look like b-tree pages."""
    size = page_size(file)
    places = ((start, start + (100 if start == 0 else 0)) for start in range(0, len(file) - size + 1, size))
    kinds = (TABLE_LEAF, TABLE_INNER, INDEX_LEAF, INDEX_INNER)
    return [(start, header) for start, header in places if file[header] in kinds]


def cells(file: bytes, start: int, header: int) -> list[int]:
    """Offsets of the cells of a b-tree page."""
    count = int.from_bytes(file[header + 3 : header + 5], "big")
    first = header + (12 if file[header] in (TABLE_INNER, INDEX_INNER) else 8)
    end = start + page_size(file)
    pointers = (int.from_bytes(file[at : at + 2], "big") for at in range(first, min(first + 2 * count, end - 1), 2))
    return [start + pointer for pointer in pointers if 0 < pointer < end - start]


def frames(log: bytes) -> Iterator[int]:
    """Offsets of the frames of a log."""
    yield from range(_LOG_HEADER, len(log) - _FRAME_HEADER - log_page_size(log) + 1, _FRAME_HEADER + log_page_size(log))


def log_page_size(log: bytes) -> int:
    """Bytes of a page as the log's header says, 4096 where that says nothing possible."""
    size = int.from_bytes(log[8:12], "big")
    return size if 512 <= size <= 65_536 and size & (size - 1) == 0 else 4096


def with_checksums(log: bytes) -> bytes:
    """The log with the salts and checksums that make SQLite believe each of its frames."""
    out = bytearray(log)
    order = ">" if out[3] & 1 else "<"
    sums = _checksum(bytes(out[:24]), order, (0, 0))
    out[24:32] = struct.pack(">II", *sums)
    for frame in frames(log):
        out[frame + 8 : frame + 16] = out[16:24]
        page = bytes(out[frame : frame + 8] + out[frame + 24 : frame + 24 + log_page_size(log)])
        sums = _checksum(page, order, sums)
        out[frame + 16 : frame + 24] = struct.pack(">II", *sums)
    return bytes(out)


def _checksum(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    for left, right in struct.iter_unpack(f"{order}II", data):
        first = (first + left + second) & 0xFFFFFFFF
        second = (second + right + first) & 0xFFFFFFFF
    return first, second


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
