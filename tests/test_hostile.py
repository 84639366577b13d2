"""A file made to harm is one clear line, at once: never a crash, a wait, much memory, or a value of the wrong type."""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
import struct
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.fuzzing.__main__ import mutant
from tests.fuzzing.contents import NAMES
from tests.fuzzing.reading import FORMS, read_everything
from tests.fuzzing.sample import cells, page_size, tree_pages
from tests.fuzzing.seeds import seeds
from tests.synthetic import synthetic_run, write_synthetic
from tests.test_trace import changed
from tracer.analysis.compare import compare
from tracer.analysis.flow_map import flow_map
from tracer.diagnosis.faults import diagnose
from tracer.errors import InputError, TraceFileError
from tracer.report.data import report_data
from tracer.report.text import report_text
from tracer.subject.run import RunOptions
from tracer.tracefile import rows
from tracer.tracefile.bounds import BoundedQueries
from tracer.tracefile.trace import Trace, open_trace
from tracer.tracefile.writer import TraceWriter

NODE_PAGE = 3  # the root of the table `node`: tables stand in the order of the layout
ENDLESS = 300


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "run.dltrace"
    write_synthetic(path, layers=3, examples=2, tensors=True)
    return small_pages(path)


def small_pages(path: Path) -> Path:
    """The same trace on pages of 4 096 bytes: what is made by hand here is made for those."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA page_size = 4096; VACUUM")
    return path


def test_mutants_of_traces_are_refused_or_read(tmp_path: Path) -> None:
    rng, corpus = Random(20), seeds()
    path = tmp_path / "mutant.dltrace"
    refused = 0
    for index in range(150):
        sample = mutant(rng, corpus)
        sample.write(path)
        form = list(FORMS)[index % len(FORMS)]
        reading = read_everything(path, [form])  # raises whatever is not a clear refusal
        refused += "opening" in reading.refused
        assert reading.longest < 1, (sample.name, reading.refused)
    assert 30 < refused < 120  # neither all nor none: the mutants are of use


# Pages that lead to one another.


def endless(file: Path, target: Path, root: int = NODE_PAGE) -> Path:
    """A copy of `file` whose table at page `root` has 300^6 times the rows of its first leaf, on seven pages."""
    content = bytearray(file.read_bytes())
    size = page_size(content)
    pages = len(content) // size
    leaf = root
    while content[(leaf - 1) * size] == 5:
        start = (leaf - 1) * size
        leaf = int.from_bytes(content[(place := cells(content, start, start)[0]) : place + 4], "big")
    content += content[(leaf - 1) * size : leaf * size]
    for level in range(6):
        content += inner_page(size, pages + 1 + level)
    content[(root - 1) * size : root * size] = inner_page(size, pages + 7)
    content[28:32] = struct.pack(">I", len(content) // size)
    target.write_bytes(content)
    return target


def inner_page(size: int, child: int) -> bytes:
    """An inner page of a table, all of whose children are the same page."""
    page = bytearray(size)
    page[0] = 5
    page[3:5], page[5:7], page[8:12] = struct.pack(">H", ENDLESS), struct.pack(">H", size - 6), struct.pack(">I", child)
    page[size - 6 :] = struct.pack(">I", child) + b"\0\0"
    for index in range(ENDLESS):
        page[12 + 2 * index : 14 + 2 * index] = struct.pack(">H", size - 6)
    return bytes(page)


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda trace: trace.columns, "it claims more than it can hold"),
        (lambda trace: trace.query("SELECT * FROM node"), "it claims more than it can hold"),
        (lambda trace: trace.query("SELECT json_group_array(type) FROM node"), "interrupted"),
        (lambda trace: trace.query("SELECT * FROM ledger"), "interrupted"),
    ],
)
def test_rows_without_end_are_refused_at_once(
    file: Path, tmp_path: Path, read: Callable[[Trace], object], reason: str
) -> None:
    with open_trace(endless(file, tmp_path / "bad.dltrace")) as trace:
        start = time.thread_time()
        with pytest.raises(TraceFileError, match=rf"bad\.dltrace is damaged or cut short \({reason}\): record"):
            read(trace)
        assert time.thread_time() - start < 1


def test_a_layout_without_end_is_refused_at_once(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    size = page_size(content)
    pages = len(content) // size
    content += content[100:size] + bytes(100)  # the layout's rows, on a page of their own
    leaf = len(content) - size
    for place in range(8, 8 + 2 * 20, 2):  # where the cells begin is counted from the beginning of the page
        (offset,) = struct.unpack(">H", content[leaf + place : leaf + place + 2])
        content[leaf + place : leaf + place + 2] = struct.pack(">H", max(offset - 100, 0))
    content[100:size] = inner_page(size - 100, pages + 1)
    for place in range(112, 112 + 2 * ENDLESS, 2):
        content[place : place + 2] = struct.pack(">H", size - 6)
    content[28:32] = struct.pack(">I", pages + 1)
    bad = tmp_path / "bad.dltrace"
    bad.write_bytes(content)
    start = time.thread_time()
    with pytest.raises(TraceFileError, match=r"bad\.dltrace"):
        open_trace(bad)
    assert time.thread_time() - start < 1


def test_a_row_of_the_layout_of_four_gigabytes_is_one_clear_line(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    cell = cells(content, 0, 100)[1]
    claim = b"\x8f\xff\xff\xff\x7f"  # 2^32 − 1 bytes, where the length of two bytes and the row's number stood
    content[175:900] = claim + content[cell + 4 : cell + 4 + 720]
    content[110:112] = struct.pack(">H", 175)
    bad = tmp_path / "bad.dltrace"
    bad.write_bytes(content)
    with pytest.raises(
        TraceFileError, match=r"damaged or cut short \(it claims more than it can hold\): record it again"
    ):
        open_trace(bad)


def test_a_query_is_bounded_by_the_file_with_its_log(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(1000))
    connection = sqlite3.connect(":memory:")
    queries = BoundedQueries(connection, path)
    many = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT ?) SELECT x FROM c"
    assert len(queries.rows(many, (1000,))) == len(queries.rows(many, (1000,), width=8)) == 1000
    for width in (None, 8):
        with pytest.raises(sqlite3.DataError, match="more than it can hold"):
            queries.rows(many, (20_000,), width)
    with pytest.raises(sqlite3.DataError, match="too big"):
        queries.rows("SELECT zeroblob(1500000)")
    assert not queries.holds(1_500_000)
    (tmp_path / "x-wal").write_bytes(bytes(100_000))
    assert len(queries.rows(many, (20_000,))) == len(queries.rows(many, (20_000,), width=8)) == 20_000
    assert queries.rows("SELECT length(zeroblob(1500000))") == [(1_500_000,)]
    path.unlink()  # what was is remembered: somebody may have put another file there
    assert queries.holds(1_500_000) and not queries.holds(2_000_000)
    assert BoundedQueries(connection, None).holds(1e300)


def test_a_trace_that_grows_is_read_whole(tmp_path: Path) -> None:
    writer = write_synthetic(tmp_path / "run.dltrace", layers=1, status="recording")
    with open_trace(tmp_path / "run.dltrace") as trace:
        raw = np.arange(9_000_000, dtype=np.uint8)
        assert not trace._reader.queries.holds(len(raw))
        writer.set_attributions([writer.put_tensor(raw.tobytes(), "uint8", (9_000_000,))])
        writer.commit()
        assert np.array_equal(trace.attributions[0], raw)
    writer.close()


# Sizes that are claimed.


def test_a_tensor_larger_than_the_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.dltrace"
    length = 2_200_000
    claimed = length + 32_000 * 4092  # so many pages more: where the rest of the cell begins stays the same
    with TraceWriter(path) as writer:
        writer.begin(synthetic_run())
        writer.set_attributions([writer.put_tensor(bytes(length), "uint8", (length,))])
        writer.finish(synthetic_run())
    small_pages(path)
    shape = f"[{claimed}]"
    bad = changed(path, tmp_path / "bad.dltrace", f"UPDATE tensor SET shape = '{shape}'")
    content = bad.read_bytes()
    rest = 9 + 16 + len("uint8") + len(shape)  # the record's head, and its other cells
    for was, claim in ((length + rest, claimed + rest), (2 * length + 12, 2 * claimed + 12)):
        assert content.count(varint(was)) == 1
        content = content.replace(varint(was), varint(claim))
    bad.write_bytes(content)
    with open_trace(bad) as trace, pytest.raises(TraceFileError, match=f"claims {claimed} bytes, more than the file"):
        trace.attributions  # noqa: B018


def varint(value: int) -> bytes:
    """A number from 2^21 to 2^28 as SQLite writes it."""
    return bytes([value >> 21 | 0x80, value >> 14 & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value & 0x7F])


def test_a_tensor_named_many_times_is_held_once(file: Path, tmp_path: Path) -> None:
    with open_trace(file) as trace:
        ((text,),) = trace.query("SELECT attributions FROM run")
    names = json.dumps(json.loads(text) * 10_000)
    path = changed(file, tmp_path / "run.dltrace", f"UPDATE run SET attributions = '{names}'")
    with open_trace(path) as trace:
        found = trace.attributions
    assert len(found) == 10_000 and len({id(array) for array in found}) == 1


def test_different_tensors_of_shared_content_are_bounded_together(tmp_path: Path) -> None:
    raw = np.zeros(500_000, dtype=np.uint8)
    with TraceWriter(tmp_path / "run.dltrace") as writer:
        writer.begin(synthetic_run())
        refs = [writer.put_tensor(raw.tobytes(), "uint8", (500_000, *[1] * ones)) for ones in range(4)]
        writer.set_attributions(refs)
        writer.finish(synthetic_run())
    with open_trace(tmp_path / "run.dltrace") as trace:
        assert len(trace.attributions) == 4
    with open_trace(tmp_path / "run.dltrace") as trace:  # as if the four lay on the same pages
        trace._reader.queries._size = 0
        trace._reader.queries._files = (tmp_path / "none",)
        with pytest.raises(TraceFileError, match="its attributions are larger than the file"):
            trace.attributions  # noqa: B018


def test_rows_of_an_empty_tensor_come_at_once(tmp_path: Path) -> None:
    source = write_synthetic(None, layers=1, tensors=True).trace()
    with TraceWriter(None) as writer:
        writer.begin(source.run)
        empty = writer.put_tensor(b"", "float32", (2**47, 0))
        writer.add(replace(source.nodes[0], end=1, children=()), (replace(source.edges(0)[0], value=empty),))
        writer.finish(source.run)
        blocks = list(writer.trace().tensor_blocks(0, "input", 0, 2**47, rows=1000))
    assert len(blocks) == 1 and blocks[0].size == 0


# Cells that are not what they must be; more of them are in test_trace.py.


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE run SET output = x''",
        "UPDATE run SET panel = json_set(panel, '$.hooks', 0)",
        "UPDATE run SET panel = json_set(panel, '$.hooks', json('[]'))",
        "UPDATE edge SET value_hash = 'text' WHERE node = 3",
        "UPDATE edge SET multiplier_hash = 7 WHERE node = 3",
        "UPDATE edge SET direction = 'across' WHERE node = 3 AND direction = 'in'",
        "UPDATE edge SET flow_examples = x'' WHERE node = 3",
        "UPDATE node SET figures = zeroblob(1000000) WHERE id = 3",
        "UPDATE node SET self_leak_examples = zeroblob(24) WHERE id = 3",
        "UPDATE counterfactual SET delta_examples = x''",
        "UPDATE counterfactual SET self_leak = x'0000000000000000'",
    ],
)
def test_cells_of_the_wrong_type_or_length_are_one_clear_line(file: Path, tmp_path: Path, statement: str) -> None:
    with_run = changed(
        file,
        tmp_path / "seed.dltrace",
        "INSERT INTO counterfactual SELECT 1, 0, '', '', '[]', 0, delta, x'', 0 FROM run",
    )
    path = changed(with_run, tmp_path / "bad.dltrace", statement)
    with pytest.raises(TraceFileError, match=r"bad\.dltrace is damaged or cut short \(.*\): record it again"):
        read_parts(path)
    read_parts(with_run)


def read_parts(path: Path) -> None:
    with open_trace(path) as trace:
        assert trace.leaks(0) and list(trace.nodes) and trace.counterfactuals
        for node in trace.nodes:
            trace.edges(node)


@pytest.mark.parametrize(
    ("change", "view"),
    [
        ("node SET largest_secant = char(27) || hex(zeroblob(9999))", diagnose),
        ("node SET small_differences = char(27) || hex(zeroblob(9999))", diagnose),
        ("edge SET value_mean = ',Inf'", diagnose),
        ("edge SET value_mean = char(27) || hex(zeroblob(9999))", lambda trace: compare(trace, trace)),
    ],
)
def test_views_refuse_figures_that_are_no_numbers(
    file: Path, tmp_path: Path, change: str, view: Callable[[Trace], object]
) -> None:
    with open_trace(changed(file, tmp_path / "bad.dltrace", f"UPDATE {change}")) as trace:
        with pytest.raises(TraceFileError, match=r"bad\.dltrace is damaged or cut short \(.*\): record") as error:
            view(trace)
        assert len(str(error.value)) < 500 and str(error.value).isprintable()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("status", ["complete", "failed", "recording"])
def test_figures_of_any_size_raise_no_warning(file: Path, tmp_path: Path, status: str) -> None:
    path = changed(file, tmp_path / "run.dltrace", "UPDATE edge SET value_norm = 1e307, multiplier_norm = 1")
    with sqlite3.connect(path) as connection:
        output = pack(5e-324, -5e-324) if status == "complete" else pack(1e308, 1e308)
        connection.execute("UPDATE run SET status = ?, delta = ?, output = ?", (status, pack(1e308, 1e308), output))
        connection.execute("UPDATE run SET output_reference = ?", (pack(0.0, 0.0),))
        for row, figures in connection.execute("SELECT id, figures FROM node").fetchall():
            connection.execute("UPDATE node SET figures = ? WHERE id = ?", (figures[:40] + pack(*[1e308] * 5), row))
        connection.execute("UPDATE node SET leak_examples = ?, self_leak_examples = ?", (pack(1e308, 1e308),) * 2)
    connection.close()
    assert read_everything(path, list(FORMS)).figures.keys() >= FORMS.keys()


def pack(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}d", *numbers)


@pytest.mark.parametrize("node", [2.5, -124, 2**62])
def test_an_edge_of_no_call_is_left_out(file: Path, tmp_path: Path, node: float) -> None:
    path = changed(file, tmp_path / "run.dltrace", f"UPDATE edge SET node = {node} WHERE node = 2")
    with open_trace(path) as trace, open_trace(file) as sound:
        assert flow_map(trace).nodes == flow_map(sound).nodes
        assert compare(trace, sound).aligned == len(sound.nodes)
        assert diagnose(trace)[0].node == diagnose(sound)[0].node


@pytest.mark.parametrize("node", ["2.5", "-124", "'x'"])
@pytest.mark.parametrize("which", ["value", "difference", "multiplier"])
def test_infinity_on_an_edge_of_no_call_is_no_evidence(file: Path, tmp_path: Path, node: str, which: str) -> None:
    infinite = f"UPDATE edge SET node = {node}, dtype = 'float16', {which}_nonfinite = 1 WHERE node = 2"
    delta = f"UPDATE run SET delta = x'{pack(math.inf, 1.0).hex()}'"
    with open_trace(changed(file, tmp_path / "run.dltrace", infinite, delta)) as trace:
        if node == "'x'":
            with pytest.raises(TraceFileError, match="is damaged or cut short"):
                diagnose(trace)
        else:
            assert not {"non-finite", "half-underflow"} & {finding.kind for finding in diagnose(trace)}


def test_more_tokens_and_rankings_than_any_run_has_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST_JSON", 1000)
    with pytest.raises(TraceFileError, match=r"damaged or cut short \(\d+ bytes of tokens and rankings\): record"):
        open_trace(file)


@pytest.mark.parametrize("command", ["[" * 200_000, '{"a":' * 200_000, "9" * 5000, "[]", '{"model": 7}', "\0", "nan"])
def test_a_command_that_is_none_is_left_out(file: Path, tmp_path: Path, command: str) -> None:
    path = changed(file, tmp_path / "run.dltrace")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE run SET command = ?", (command,))
    connection.close()
    with open_trace(path) as trace:
        assert report_data(trace)["command"] == ""
        with pytest.raises(TraceFileError, match="does not say in a known way how its run was made: record it again"):
            RunOptions.from_json(trace.run.command)


def test_a_node_says_of_itself_what_the_tree_says(file: Path, tmp_path: Path) -> None:
    # The cells that other programs read are not those that the tree is checked by.
    statement = "UPDATE node SET parent = 'x', subtree_end = 1 << 40, depth = -1, leak = 'x', gain = x'00' WHERE id = 3"
    with open_trace(changed(file, tmp_path / "run.dltrace", statement)) as trace, open_trace(file) as sound:
        assert (trace.nodes[3].parent, trace.nodes[3].end) == (sound.nodes[3].parent, sound.nodes[3].end)
        assert (trace.nodes[3].depth, trace.nodes[3].gain) == (sound.nodes[3].depth, sound.nodes[3].gain)


def test_rows_out_of_order_are_one_clear_line(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    start, header = next(place for place in tree_pages(content) if content[place[1]] == 5)
    leaf = (int.from_bytes(content[(place := cells(content, start, header)[0]) : place + 4], "big") - 1) * page_size(
        content
    )
    cell = cells(content, leaf, leaf)[3]
    length = 2 if content[cell] & 0x80 else 1
    assert content[cell + length] == 3
    content[cell + length] = 120  # a scan still meets the row in its place, a search for it does not
    bad = tmp_path / "bad.dltrace"
    bad.write_bytes(content)
    with open_trace(bad) as trace, pytest.raises(TraceFileError, match="its calls are not in order"):
        trace.nodes[3]


def test_a_call_beyond_the_gap_of_an_unfinished_trace_is_not_found(file: Path, tmp_path: Path) -> None:
    path = changed(file, tmp_path / "r.dltrace", "UPDATE run SET status = 'recording'", "DELETE FROM node WHERE id = 9")
    with open_trace(path) as trace, open_trace(file) as sound:
        assert trace.find(sound.nodes[8].path).id == 8
        with pytest.raises(InputError, match="the trace has no call 0 of"):
            trace.find(sound.nodes[10].path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dltrace")
    with pytest.raises(TraceFileError, match=re.escape("pipe.dltrace is a device or a pipe: give a trace file")):
        open_trace(tmp_path / "pipe.dltrace")


# Names that a terminal, a page or an issue thread would obey.


@pytest.mark.parametrize("name", [*NAMES, "=1+1", "\ud800", "x" * 20_000, "[red]x[/]", "@captum #519 https://x.y"])
def test_names_take_no_effect_in_any_form(file: Path, tmp_path: Path, name: str) -> None:
    path = changed(file, tmp_path / "run.dltrace")
    quoted = json.dumps(name)
    stored = name.encode("utf-8", "replace").decode()
    with sqlite3.connect(path) as connection:
        for column in ("model", "method", "variant", "started", "target", "text", "reference"):
            connection.execute(f"UPDATE run SET {column} = ?", (stored,))
        connection.execute("UPDATE run SET tokens = ?", (f"[[{quoted}, {quoted}]]",))
        connection.execute("UPDATE run SET versions = ?", (f"{{{quoted}: {quoted}}}",))
        panel = json.loads(connection.execute("SELECT panel FROM run").fetchone()[0])
        panel["labels"] = panel["labels"] and [name, name]
        panel["rankings"] = [{**ranking, "name": name, "note": name} for ranking in panel["rankings"]]
        panel["hooks"] |= {"version": name, "path": name, "hooked": {name: 1}, "unhooked": {name: 2}}
        connection.execute("UPDATE run SET panel = ?", (json.dumps(panel),))
        connection.execute("UPDATE node SET path = ? || id, type = ?", (stored[:16_000],) * 2)
        connection.execute("UPDATE node SET source = ?, rule = ?", (stored, stored))
        connection.execute("UPDATE edge SET name = ?", (stored,))
        connection.execute("INSERT INTO note (what, path, detail, source) VALUES (?, ?, ?, ?)", (stored,) * 4)
        connection.execute(
            "INSERT INTO counterfactual SELECT 1, 1, ?, ?, ?, 0, delta, x'', 0 FROM run",
            (stored, stored, f"[{quoted}]"),
        )
    connection.close()
    reading = read_everything(path, list(FORMS))  # raises what takes effect
    assert reading.figures.keys() >= FORMS.keys() and not reading.refused.keys() & FORMS.keys()
    with open_trace(path) as trace:
        assert trace.nodes[1].type == stored[:16_000] and len(report_text(trace)) < 50_000


def test_an_error_that_names_a_call_is_one_clear_line(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "run.dltrace", layers=1)
    path = changed(tmp_path / "run.dltrace", tmp_path / "bad.dltrace", "UPDATE node SET path = char(27) || '[2J' || id")
    with open_trace(path) as trace, pytest.raises(TraceFileError, match=r"figures only, not input 0 of ␛\[2J3: record"):
        trace.tensor(3, "input")


def test_a_journal_beside_the_file_changes_nothing(file: Path, tmp_path: Path) -> None:
    path = changed(file, tmp_path / "run.dltrace")
    before, size = path.read_bytes(), 4096
    head = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + struct.pack(">5I", 1, 0, len(before) // size, 512, size)
    # One page of zeros, to be put back in the place of page 2: as if a writer had been killed.
    (tmp_path / "run.dltrace-journal").write_bytes(head.ljust(512, b"\0") + struct.pack(">I", 2) + bytes(size + 4))
    with pytest.raises(TraceFileError, match=r"damaged or cut short \(attempt to write a readonly database\)"):
        open_trace(path)
    assert path.read_bytes() == before
