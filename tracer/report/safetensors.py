"""A trace's tensors as a safetensors file: a JSON header, then their bytes as they were recorded. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tracer.errors import TraceFileError
from tracer.records import Progress
from tracer.report.csv_json import node_data, run_data
from tracer.tracefile.cells import MISSHAPEN, content_hash, parse_shape, tensor_bytes
from tracer.tracefile.opening import damaged
from tracer.tracefile.rows import refs_from_json
from tracer.tracefile.trace import Trace

# https://huggingface.co/docs/safetensors: complex128 has no name there.
_DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
    "int64": "I64", "uint64": "U64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex64": "C64",
}  # fmt: skip
_LONGEST_HEADER = 100_000_000
"""Readers of safetensors refuse a longer one."""
_NAMES = {
    "in": ("input", "reference", "multiplier_in"),
    "out": ("output", "output_reference", "multiplier_out"),
}
_EDGES = (
    "SELECT node.path, node.call, edge.direction, edge.slot, value_hash, reference_hash, multiplier_hash"
    " FROM edge JOIN node ON node.id = edge.node ORDER BY edge.node, edge.direction, edge.slot"
)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A stored tensor: where it is in the trace, and what it is."""

    hash: bytes
    row: int
    dtype: str
    shape: tuple[int, ...]
    bytes: int


def write_safetensors(trace: Trace, file: BinaryIO, progress: Progress | None = None) -> tuple[int, int]:
    """Write every recorded tensor; gives back how many were written and how many could not be.

    Names are "path#call/name.slot", where `name` is one of those that `Trace.tensor` takes, and "attribution.0" and on;
    each is the recorded half of a doubled batch, in its own dtype. The metadata has the JSON texts "run" (the head) and
    "nodes" (all calls with their figures), and "elided": the names of what was left out of the trace, or is complex128.
    """
    names, elided = _names(trace)
    order = sorted(names, key=lambda name: (-_item(names[name]), names[name].row, name))
    header = _header(trace, names, order, elided)
    file.write(len(header).to_bytes(8, "little") + header)
    data, row = b"", -1
    for done, name in enumerate(order):
        stored = names[name]
        if progress is not None:
            progress("Exporting tensors", done, len(order))
        if stored.row != row:  # names of one content follow one another
            data, row = _data(trace, stored), stored.row
        file.write(data)
    return len(order), len(elided)


def _names(trace: Trace) -> tuple[dict[str, _Stored], list[str]]:
    """The stored tensor of each name, and the names of those that are not there."""
    stored = {item.hash: item for item in _stored(trace)}
    names: dict[str, _Stored] = {}
    elided: list[str] = []

    def put(name: str, digest: object) -> None:
        if digest is None:
            return
        item = stored.get(digest) if isinstance(digest, bytes) else None
        if item is None and digest != b"":
            raise damaged(trace.path, f"{name} is missing")
        if item is None or item.dtype not in _DTYPES:
            elided.append(name)
        else:
            names[name] = item

    for path, call, direction, slot, *hashes in trace.query(_EDGES):
        for kind, digest in zip(_NAMES.get(direction, ()), hashes, strict=False):
            put(f"{path}#{call}/{kind}.{slot}", digest)
    ((refs,),) = trace.query("SELECT attributions FROM run")
    try:
        attributions = refs_from_json(refs)
    except MISSHAPEN as error:
        raise damaged(trace.path, error) from error
    for index, ref in enumerate(attributions):
        put(f"attribution.{index}", ref.hash or b"")
    return names, elided


def _stored(trace: Trace) -> Iterator[_Stored]:
    for digest, row, dtype, shape, length, kind in trace.stored_tensors():
        try:
            sizes = parse_shape(json.loads(shape))
            expected = tensor_bytes(dtype, sizes)
        except MISSHAPEN as error:
            raise damaged(trace.path, error) from error
        if kind != "blob" or length != expected:
            raise damaged(trace.path, f"a tensor has {length} bytes, its shape needs {expected}")
        yield _Stored(digest, row, dtype, sizes, length)


def _item(stored: _Stored) -> int:
    """Bytes of an element: the widest come first, so that each tensor begins at a multiple of its own."""
    return tensor_bytes(stored.dtype, ())


def _header(trace: Trace, names: dict[str, _Stored], order: list[str], elided: list[str]) -> bytes:
    entries: dict[str, object] = {
        "__metadata__": {
            "format": "deeplift-tracer",
            "run": json.dumps(run_data(trace), allow_nan=False),
            "nodes": json.dumps([node_data(node) for node in trace.nodes], allow_nan=False),
            "elided": json.dumps(elided),
        }
    }
    start = 0
    for name in order:
        stored = names[name]
        end = start + stored.bytes
        entries[name] = {"dtype": _DTYPES[stored.dtype], "shape": stored.shape, "data_offsets": (start, end)}
        start = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > _LONGEST_HEADER:
        raise TraceFileError(
            f"{len(order)} tensors and {len(trace.nodes)} calls do not fit into the head of a safetensors file: "
            "export to json, or read single tensors with tracer.open_trace"
        )
    return header


def _data(trace: Trace, stored: _Stored) -> bytes:
    data = trace.content(stored.row, "a tensor")
    if content_hash(data, stored.dtype, stored.shape, trace.version) != stored.hash:
        raise damaged(trace.path, "a tensor is not what was recorded")
    return data
