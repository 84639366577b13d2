"""Mutations of the bytes of a trace: any bytes, the database's own structures, its log. Pure: sample in, sample out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.fuzzing.sample import (
    INDEX_INNER,
    INDEX_LEAF,
    TABLE_INNER,
    Sample,
    cells,
    frames,
    log_page_size,
    page_size,
    tree_pages,
    with_checksums,
)  # fmt: skip

Mutation = Callable[[Random, Sample], Sample]

WILD = (0, 1, 2, 3, 5, 10, 13, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62)
_HEADER_FIELDS = (
    (16, 2), (18, 1), (19, 1), (20, 1), (21, 1), (22, 1), (23, 1), (24, 4), (28, 4), (32, 4), (36, 4), (40, 4),
    (44, 4), (48, 4), (52, 4), (56, 4), (60, 4), (64, 4), (68, 4), (92, 4), (96, 4),
)  # fmt: skip


def flip_bits(rng: Random, sample: Sample) -> Sample:
    """1 to 30 bits anywhere."""
    content = bytearray(sample.file)
    for _ in range(rng.choice((1, 1, 3, 30))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return replace(sample, file=bytes(content))


def set_bytes(rng: Random, sample: Sample) -> Sample:
    """Wild numbers anywhere."""
    content = bytearray(sample.file)
    for _ in range(rng.choice((1, 3, 10))):
        _put(content, rng.randrange(len(content)), rng.choice((1, 2, 4, 8)), rng.choice(WILD))
    return replace(sample, file=bytes(content))


def cut(rng: Random, sample: Sample) -> Sample:
    """A tail missing; half the time the header's number of pages is made to agree."""
    content = bytearray(sample.file[: rng.randrange(len(sample.file))])
    if rng.random() < 0.5 and len(content) > 100:
        _put(content, 28, 4, len(content) // page_size(content))
    return replace(sample, file=bytes(content))


def lengthen(rng: Random, sample: Sample) -> Sample:
    """Bytes put in somewhere, or taken out."""
    place, count = rng.randrange(len(sample.file)), rng.choice((1, 4, 100, 4096))
    middle = rng.randbytes(count) if rng.random() < 0.5 else b""
    return replace(sample, file=sample.file[:place] + middle + sample.file[place + (0 if middle else count) :])


def header_field(rng: Random, sample: Sample) -> Sample:
    """A wild number in one or more fields of the database's header."""
    content = bytearray(sample.file)
    for _ in range(rng.choice((1, 1, 2))):
        place, size = rng.choice(_HEADER_FIELDS)
        near = int.from_bytes(content[place : place + size], "big") + rng.choice((-1, 1))
        _put(content, place, size, rng.choice((near, *WILD)))
    return replace(sample, file=bytes(content))


def pages(rng: Random, sample: Sample) -> Sample:
    """A page overwritten by chance, by zeros or by another page, or two pages swapped."""
    size, content = page_size(sample.file), bytearray(sample.file)
    first, second = (rng.randrange(max(len(content) // size, 1)) * size for _ in range(2))
    one, two = bytes(content[first : first + size]), bytes(content[second : second + size])
    match rng.randrange(4):
        case 0:
            one, two = two, one
        case 1:
            two = one
        case 2:
            one = rng.randbytes(len(one))
        case _:
            one = bytes(len(one))
    content[second : second + size] = two
    content[first : first + size] = one
    return replace(sample, file=bytes(content))


def tree_header(rng: Random, sample: Sample) -> Sample:
    """A wild kind, free block, number of cells, content start or right-most child in a b-tree page."""
    content = bytearray(sample.file)
    if found := tree_pages(sample.file):
        _, header = rng.choice(found)
        offset, size = rng.choice(((0, 1), (1, 2), (3, 2), (5, 2), (7, 1), (8, 4)))
        now = int.from_bytes(content[header + offset : header + offset + size], "big")
        values = (TABLE_INNER, INDEX_LEAF, INDEX_INNER, now + 1, max(now - 1, 0), *WILD)
        _put(content, header + offset, size, rng.choice(values))
    return replace(sample, file=bytes(content))


def cell(rng: Random, sample: Sample) -> Sample:
    """Wild lengths, row numbers and types at the beginning of some cells of a page, or cells that share content."""
    content = bytearray(sample.file)
    for start, header in rng.sample(found := tree_pages(sample.file), min(len(found), rng.choice((1, 1, 4)))):
        places = cells(sample.file, start, header)
        if not places:
            continue
        place = rng.choice(places)
        match rng.randrange(4):
            case 0:  # the payload's length
                _splice(content, place + (4 if content[header] == TABLE_INNER else 0), _varint(rng.choice(WILD)))
            case 1:  # the row's number or, in an index, the head of the record
                _splice(content, place + rng.choice((1, 2)), _varint(rng.choice(WILD)))
            case 2:  # one type of the record
                _splice(content, place + rng.randrange(2, 40), _varint(rng.choice((*WILD, 12 + 2 * 10**6, 13))))
            case _:  # two cells become one
                pointers = header + (12 if content[header] in (TABLE_INNER, INDEX_INNER) else 8)
                one, two = rng.randrange(len(places)), rng.randrange(len(places))
                _put(content, pointers + 2 * one, 2, places[two] - start)
    return replace(sample, file=bytes(content))


def links(rng: Random, sample: Sample) -> Sample:
    """Pages that lead to themselves, to one another or to nowhere: children of inner pages, chains of overflow."""
    size, content = page_size(sample.file), bytearray(sample.file)
    count = max(len(content) // size, 1)
    inner = [(s, h) for s, h in tree_pages(sample.file) if content[h] in (TABLE_INNER, INDEX_INNER)]
    if inner and rng.random() < 0.5:
        start, header = rng.choice(inner)
        target = rng.choice((start // size + 1, rng.randint(1, count), rng.choice(WILD)))
        everywhere = rng.random() < 0.5
        for place in (header + 8, *cells(sample.file, start, header)):
            if everywhere or rng.random() < 0.3:
                _put(content, place, 4, target)
    else:
        start = rng.randrange(count) * size
        _put(content, start, 4, rng.choice((start // size + 1, rng.randint(1, count), rng.choice(WILD))))
    return replace(sample, file=bytes(content))


def log_bytes(rng: Random, sample: Sample) -> Sample:
    """Bits of the log flipped, its tail cut, or a log of chance where none was; half the time SQLite believes it."""
    log = bytearray(sample.log or rng.randbytes(rng.choice((0, 32, 5000))))
    for _ in range(rng.choice((1, 5, 30)) if log else 0):
        log[rng.randrange(len(log))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.3 and log:
        del log[rng.randrange(len(log)) :]
    believed = rng.random() < 0.5 and len(log) >= 32
    return replace(sample, log=with_checksums(bytes(log)) if believed else bytes(log))


def log_frame(rng: Random, sample: Sample) -> Sample:
    """Frames of the log that claim another page or another size of the file, or hold another page; all believed."""
    if sample.log is None or not (found := list(frames(sample.log))):
        return log_bytes(rng, sample)
    log, size = bytearray(sample.log), log_page_size(sample.log)
    for _ in range(rng.choice((1, 3))):
        frame, other = rng.choice(found), rng.choice(found)
        match rng.randrange(4):
            case 0:
                _put(log, frame, 4, rng.choice((1, 2, *WILD)))
            case 1:  # a size stands in the last frame of a transaction only
                _put(log, rng.choice((frame, found[-1])) + 4, 4, rng.choice((1, 2, *WILD)))
            case 2:
                log[frame + 24 : frame + 24 + size] = log[other + 24 : other + 24 + size]
            case _:
                _put(log, frame + 24 + rng.randrange(size), rng.choice((1, 2, 4)), rng.choice(WILD))
    return replace(sample, log=with_checksums(bytes(log)))


BYTES: tuple[Mutation, ...] = (
    flip_bits, set_bytes, cut, lengthen, header_field, pages, tree_header, cell, links, log_bytes, log_frame,
)  # fmt: skip


def _put(content: bytearray, place: int, size: int, value: int) -> None:
    """`value`, big-endian, over `size` bytes; what goes past the end is left out, the length stays."""
    data = (value % (1 << 8 * size)).to_bytes(size, "big")
    _splice(content, place, data)


def _splice(content: bytearray, place: int, data: bytes) -> None:
    content[place : place + len(data)] = data[: max(len(content) - place, 0)]


def _varint(value: int) -> bytes:
    """SQLite's own encoding of a number below 2^63."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))
