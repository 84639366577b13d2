"""The report says what the trace holds, in strict JSON and in plain words, and the verdict is right."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.synthetic import synthetic_run, write_synthetic
from tests.test_rows import node
from tracer.analysis.verdict import ranking_warning, verdict
from tracer.errors import InputError
from tracer.records import Counterfactual, Finding, Node, Panel, Ranking, Run
from tracer.report import contents
from tracer.report.command_line import command_line
from tracer.report.contents import ranked
from tracer.report.data import finding_data, report_data, report_json
from tracer.report.text import report_text
from tracer.text import clean, ending, figure, json_figure, multiple, of_example, percentage, relative, shorten, times
from tracer.tracefile.amend import amend
from tracer.tracefile.trace import Trace, open_trace
from tracer.tracefile.writer import TraceWriter


def memory_trace(run: Run, *nodes: Node, attributions: np.ndarray[Any, Any] | None = None) -> Trace:
    with TraceWriter(None) as writer:
        writer.begin(run)
        for one in nodes:
            writer.add(one, ())
        if attributions is not None:
            raw = attributions.astype("<f8").tobytes()
            writer.set_attributions([writer.put_tensor(raw, "float64", attributions.shape)])
        writer.finish(run)
        return writer.trace()


def with_delta(*delta: float, change: float = 2.0) -> Run:
    count = len(delta)
    return replace(
        synthetic_run(count), output=np.full(count, change), output_reference=np.zeros(count), delta=np.array(delta)
    )


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    path = tmp_path_factory.mktemp("traces") / "run.dltrace"
    write_synthetic(path, layers=2, examples=3)
    return open_trace(path)


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_json_has_the_keys_of_the_contract(trace: Trace) -> None:
    data = strict(report_json(report_data(trace)))
    assert data == report_data(trace)
    contract = {
        "schema", "model", "method", "target", "output", "output_reference", "delta", "relative_delta", "self_leak_sum",
        "tokens", "nodes", "findings",
    }  # fmt: skip
    assert contract | {"variant", "status", "panel", "versions", "counterfactuals", "command"} <= set(data)
    assert data["schema"] == 1 and data["counterfactuals"] == []
    assert set(data["findings"][0]) == {
        "kind", "path", "call", "source", "calls", "share", "message", "advice", "issues", "evidence", "caused_by",
        "delta_after",
    }  # fmt: skip
    assert set(data["nodes"][0]) == {"path", "call", "kind", "type", "source", "leak", "self_leak", "gain"}
    assert {"token", "attribution"} <= set(data["tokens"][0])
    assert set(data["panel"]) == {"labels", "output", "output_reference", "rankings", "captum"}
    assert set(data["panel"]["rankings"][0]) == {"name", "delta", "relative_delta", "warning", "tokens"}
    assert data["panel"]["captum"]["summary"] == "1 of 13 non-linearities hooked"


def test_figures_are_sums_over_the_examples_shown(trace: Trace) -> None:
    everything = report_data(trace)
    alone = [report_data(trace, example=example) for example in range(3)]
    for key in ("output", "output_reference", "delta", "self_leak_sum"):
        assert everything[key] == pytest.approx(sum(data[key] for data in alone))
    for data in (everything, *alone):
        assert data["self_leak_sum"] == pytest.approx(data["delta"], rel=1e-9)
        assert data["relative_delta"] == pytest.approx(
            abs(data["delta"]) / abs(data["output"] - data["output_reference"])
        )
    first = {(one["path"], one["call"]): one["leak"] for one in everything["nodes"]}
    for path, leak in first.items():
        parts = [next(n["leak"] for n in data["nodes"] if (n["path"], n["call"]) == path) for data in alone]
        assert leak == pytest.approx(sum(parts))
    with pytest.raises(InputError, match="no example 3: the trace holds 3, 0 to 2"):
        report_data(trace, example=3)


def test_nodes_are_worst_first_and_top_cuts_them(trace: Trace) -> None:
    nodes = report_data(trace)["nodes"]
    assert len(nodes) == len(trace.nodes)
    sizes = [abs(one["self_leak"]) for one in nodes]
    assert sizes == sorted(sizes, reverse=True)
    assert report_data(trace, top=3)["nodes"] == nodes[:3]


def test_tokens_carry_the_sum_over_their_embedding() -> None:
    attributions = np.arange(2 * 12 * 3, dtype=float).reshape(2, 12, 3)
    trace = memory_trace(synthetic_run(2), node(leak=np.zeros(2), self_leak=np.zeros(2)), attributions=attributions)
    tokens = report_data(trace, example=1)["tokens"]
    assert [one["token"] for one in tokens] == list(trace.run.tokens[1])
    assert [one["attribution"] for one in tokens] == attributions[1].sum(axis=-1).tolist()
    assert [one["example"] for one in report_data(trace)["tokens"]] == [0] * 12 + [1] * 12
    odd = memory_trace(synthetic_run(1), node(), attributions=np.ones((1, 5, 3)))
    assert {one["attribution"] for one in report_data(odd)["tokens"]} == {None}
    bare = memory_trace(synthetic_run(1, tokens=False), node())
    assert report_data(bare)["tokens"] == []


def test_nan_and_infinity_are_strict_json() -> None:
    bad = np.array([math.nan])
    panel = Panel((math.inf,), (math.nan,), (), (Ranking("r", (math.nan, -math.inf), math.nan, math.inf),))
    run = replace(with_delta(math.nan), output=np.array([math.inf]), panel=panel)
    trace = memory_trace(run, node(leak=bad, self_leak=bad, gain=math.inf), attributions=np.full((1, 12, 2), math.nan))
    data = strict(report_json(report_data(trace)))
    assert data["delta"] is None and data["output"] == "inf" and data["nodes"][0]["gain"] == "inf"
    assert data["nodes"][0]["leak"] is None and data["tokens"][0]["attribution"] is None
    assert data["panel"]["output"] == ["inf"] and data["panel"]["rankings"][0]["relative_delta"] == "inf"
    assert "nan" in report_text(trace)


def test_the_text_has_verdict_numbers_panel_and_worst_calls(trace: Trace) -> None:
    text = report_text(trace, top=3, width=90)
    flowing = " ".join(text.split())
    assert text.startswith("BROKEN: Do not read these attributions: the delta in example ")
    assert "Worst call: encoder.layer.0.block.0/softmax_1 (softmax, " in flowing
    assert "captum 0.9.0: 1 of 13 non-linearities hooked (site-packages/captum)" in flowing
    assert "not hooked softmax × 6, gelu × 6" in flowing
    assert "warning: the steps are too coarse" in flowing
    assert "positive +3 +0.5" in flowing
    assert "worst 3 of 39 calls" in flowing
    assert max(map(len, text.splitlines())) <= 90


BLAMED = Finding(
    kind="unseen-op", node=0, path="p0", call=0, source="model.py:7 forward", share=0.95, message="nobody saw it",
    advice="make it a module", issues=(351, 1082), nodes=(0, 1), evidence=(("leak", -8.0), ("nothing", math.nan)),
)  # fmt: skip
VICTIM = replace(
    BLAMED, kind="linearised-norm", node=1, path="p1", call=2, source=None, share=0.05, message="it is blown up",
    advice="exactly", issues=(), nodes=(1,), caused_by="unseen-op", delta_after=-12.0,
)  # fmt: skip


@pytest.fixture
def diagnosed(monkeypatch: pytest.MonkeyPatch) -> Trace:
    """A trace with a delta of −8, two findings, and a measured ladder of one rung."""
    monkeypatch.setattr(contents, "diagnose", lambda trace, example=None: (replace(BLAMED, delta_after=0.5), VICTIM))
    nodes = (node(end=2, self_leak=np.array([-7.6]), leak=np.array([-8.0])), node(1, self_leak=np.array([-0.4])))
    trace = memory_trace(replace(with_delta(-8.0), command=COMMAND), *nodes)
    alone = Counterfactual(
        0, "softmax exact (2 calls)", "softmax", ("softmax=exact",), np.array([0.5]), np.zeros(2), 0.25
    )
    more = (*alone.rules, "p*=exact")
    rungs = (replace(alone, step=1), Counterfactual(2, "p exact (1 call)", "p*", more, np.array([1e-4]), np.zeros(2)))
    amend(trace, counterfactuals=(alone, *rungs))
    return trace


COMMAND = json.dumps({"model": "/home/me/models/mine", "text": "it's it", "target": "1", "rules": ["a=b", "c=d"],
                      "explicit": ["softmax", "gelu"], "position": 3})  # fmt: skip


def test_the_text_tells_what_is_wrong_right_after_the_numbers(diagnosed: Trace) -> None:
    text = report_text(diagnosed, width=80)
    start = text.index("what is wrong, causes first")
    assert text.index("self leaks") < start < text.index("repair, measured") < text.index("model output")
    assert text[start : text.index("repair, measured")].splitlines() == [
        "what is wrong, causes first",
        "  1. unseen-op: 95 % of all leaks",
        "     where       p0 and 1 more call",
        "     line        model.py:7 forward",
        "     why         nobody saw it",
        "     change      make it a module",
        "     then        the delta is +0.5 instead of -8, measured",
        "     see         captum #351, #1082",
        "  2. linearised-norm: 5 % of all leaks, caused by unseen-op",
        "     where       p1 call 2",
        "     why         it is blown up",
        "     alone       made exact without its cause, the delta is -12 instead of -8,",
        "                 measured",
        "",
    ]


def test_the_text_has_the_ladder_as_it_was_measured(diagnosed: Trace) -> None:
    lines = report_text(diagnosed, width=80).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("repair, measured: "))
    assert " ".join(lines[start : start + 2]).endswith(
        "2 changes bring the delta from -8 to +0.0001, 0.005 % of the output's change: softmax and p exact."
    )
    rows = [line.split() for line in lines[start + 3 : start + 6]]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert [row[-3:] for row in rows] == [["-8", "400", "%"], ["+0.5", "25", "%"], ["+0.0001", "0.005", "%"]]
    assert not any("not measured yet" in line for line in lines)


def test_what_is_not_measured_is_said_with_the_command(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "my run.dltrace", layers=2)
    with open_trace(tmp_path / "my run.dltrace") as trace:
        text = report_text(trace, width=400)
    assert (
        f"What the delta would be after a change is not measured yet: deeplift-tracer repair '{tmp_path}/my run" in text
    )


def test_findings_and_counterfactuals_are_in_the_json(diagnosed: Trace) -> None:
    data = strict(report_json(report_data(diagnosed)))
    first, second = data["findings"]
    assert first == {
        "kind": "unseen-op", "path": "p0", "call": 0, "source": "model.py:7 forward", "calls": 2, "share": 0.95,
        "message": "nobody saw it", "advice": "make it a module", "issues": [351, 1082],
        "evidence": {"leak": -8.0, "nothing": None}, "caused_by": "", "delta_after": 0.5,
    }  # fmt: skip
    assert (second["caused_by"], second["delta_after"], second["call"]) == ("unseen-op", -12.0, 2)
    assert finding_data(replace(BLAMED, delta_after=-math.inf))["delta_after"] == "-inf"
    assert [(each["step"], each["delta"], each["relative_delta"]) for each in data["counterfactuals"]] == [
        (0, 0.5, 0.25), (1, 0.5, 0.25), (2, 1e-4, 5e-5),
    ]  # fmt: skip
    assert data["counterfactuals"][2]["rules"] == ["softmax=exact", "p*=exact"]
    assert [each["seconds"] for each in data["counterfactuals"]] == [0.25, 0.25, None]


def test_the_command_is_one_that_a_shell_takes_and_names_no_folder() -> None:
    words = shlex.split(command_line(COMMAND))
    assert words == [
        "deeplift-tracer", "trace", "mine", "--text", "it's it", "--target", "1", "--rule", "a=b", "--rule", "c=d",
        "--explicit", "softmax,gelu", "--position", "3",
    ]  # fmt: skip
    inputs = json.dumps(
        {"model": "pkg.mod:net", "inputs": "/secret/folder/x.safetensors", "reference_positions": "same"}
    )
    assert command_line(inputs) == (
        "deeplift-tracer trace pkg.mod:net --inputs x.safetensors --reference-positions same"
    )
    assert command_line('{"model": "(demo)"}') == "deeplift-tracer demo"
    for odd in ("", "{", "[]", '{"text": "no model"}', '{"model": 3}'):
        assert command_line(odd) == ""


def test_figures_of_one_example() -> None:
    values = np.array([1.0, 2.0])
    assert (of_example(values, None), of_example(values, 1)) == (3.0, 2.0)
    for example in (2, -1):
        with pytest.raises(InputError, match=f"no example {example}: the trace holds 2, 0 to 1"):
            of_example(values, example)
    with pytest.raises(InputError, match="the trace holds none"):
        of_example(np.zeros(0), 0)
    assert (relative(-1.0, 4.0), relative(0.0, 0.0), relative(1.0, 0.0)) == (0.25, 0.0, math.inf)
    assert [json_figure(value) for value in (1.5, math.nan, None, -math.inf)] == [1.5, None, None, "-inf"]


def test_the_text_of_any_trace_can_be_written() -> None:
    run = replace(synthetic_run(tokens=False, status="failed"), panel=Panel())
    assert report_text(memory_trace(run)).startswith(
        "UNFINISHED: The run failed before its attribution was complete: it"
    )
    assert "no call was recorded" in report_text(memory_trace(run))
    empty = replace(run, output=np.zeros(0), output_reference=np.zeros(0), delta=np.zeros(0), status="complete")
    assert report_text(memory_trace(empty)).startswith("UNFINISHED: The trace holds no example.")


def test_a_terminal_obeys_nothing_that_a_trace_says() -> None:
    evil = "\x1b]0;owned\x07\r\n\u202eabc\x9b2J"
    panel = Panel((1.0,), (0.0,), (evil,), (Ranking(evil, (1.0,), 1.0, 1.0, evil),))
    run = replace(
        synthetic_run(), model=evil, method=evil, variant=evil, target=evil, text=evil, reference=evil,
        tokens=((evil,),), panel=panel,
    )  # fmt: skip
    text = report_text(memory_trace(run, node(path=evil, type=evil, source=evil)))
    assert all(character == "\n" or character.isprintable() for character in text)
    failed = replace(run, status="failed", message=evil)
    assert all(character == "\n" or character.isprintable() for character in report_text(memory_trace(failed)))


@pytest.mark.parametrize(
    ("delta", "level", "start"),
    [
        (0.0, "holds", "The attributions add up: the delta is 0, 0 % of the output's change of +2."),
        (0.002, "holds", "The attributions add up: the delta is +0.002, 0.1 % of the output's change of +2."),
        (-0.0021, "off", "The attributions are slightly off: the delta is -0.0021, 0.1 % of"),
        (0.2, "off", "The attributions are slightly off: the delta is +0.2, 10 % of"),
        (0.21, "broken", "Do not read these attributions: the delta is +0.21, 10 % of"),
        (
            -96505.0,
            "broken",
            "Do not read these attributions: the delta is -96 505, 48 000 times the output's change of +2.",
        ),
        (math.nan, "broken", "Do not read these attributions: the delta is nan, "),
        (math.inf, "broken", "Do not read these attributions: the delta is +inf, "),
    ],
)
def test_the_verdict_has_two_thresholds(delta: float, level: str, start: str) -> None:
    judged = verdict(memory_trace(with_delta(delta), node(self_leak=np.array([delta]))))
    assert judged.level == level and judged.headline.startswith(start)
    assert judged.worst is not None and judged.worst.path == "p0"


def test_deltas_that_cancel_over_the_examples_do_not_hold() -> None:
    trace = memory_trace(with_delta(5.0, -5.0, 0.0), node(leak=np.zeros(3), self_leak=np.zeros(3)))
    assert trace.run.relative_delta == 0
    assert verdict(trace).level == "broken" and "in example 0" in verdict(trace).headline
    assert verdict(trace, example=2).level == "holds"


def test_an_output_that_does_not_change_is_said() -> None:
    assert "the output changes by 0." in verdict(memory_trace(with_delta(1.0, change=0.0), node())).headline
    assert verdict(memory_trace(with_delta(0.0, change=0.0), node())).level == "holds"


def test_a_ranking_that_is_off_itself_is_no_truth() -> None:
    assert ranking_warning(Ranking("IG", (1.0,), 0.1, 0.05)) == ""
    assert ranking_warning(Ranking("attention", (1.0,))) == ""
    expected = "IG is itself off by 23 % of the output's change: no truth to compare with"
    assert ranking_warning(Ranking("IG", (1.0,), -0.52, 0.23)) == expected
    assert ranking_warning(Ranking("IG", (1.0,), 0.0, 0.0, "a note")) == "a note"


def test_tokens_are_ranked_by_falling_score() -> None:
    rows = ranked(Ranking("r", (1.0, math.nan, -2.0, 2.0, 0.5)), ("a", "b", "c", "d"))
    assert [token for token, _, _ in rows] == ["d", "a", "#4", "c", "b"]


def test_numbers_in_words() -> None:
    assert [figure(x) for x in (0, -770.0908, 5_040_900.2, 2.4e-7, math.nan, -math.inf)] == [
        "0", "-770.1", "5 040 900", "2.4e-07", "nan", "-inf",
    ]  # fmt: skip
    assert [figure(x, signed=True) for x in (1.5, 96505.4)] == ["+1.5", "+96 505"]
    assert [percentage(x) for x in (0.00041, 0.051, 0.51, 0.998, -3.1)] == [
        "0.041 %",
        "5.1 %",
        "51 %",
        "100 %",
        "-310 %",
    ]
    assert (multiple(9.9), multiple(43021.0), times(0.5), times(300.0)) == (
        "990 %",
        "43 000 times",
        "50 % of",
        "300 times",
    )
    assert (shorten("abcdefghij", 5), ending("abcdefghij", 5), ending("abc", 5)) == ("ab…ij", "…ghij", "abc")
    assert clean("a\tb\x7f\u200b" + "x" * 2000, 6) == "a␉b␡�…"


def test_a_report_of_an_unfinished_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = write_synthetic(tmp_path / "run.dltrace", status="recording")
    with open_trace(tmp_path / "run.dltrace") as trace:
        assert report_text(trace).startswith("UNFINISHED: This trace is still being recorded: the figures are")
        assert report_data(trace)["verdict"] == "unfinished"
    for part in ("", "-wal"):  # as a killed recorder leaves it
        shutil.copy(tmp_path / f"run.dltrace{part}", tmp_path / f"killed.dltrace{part}")
    with open_trace(tmp_path / "killed.dltrace") as trace:
        assert report_text(trace).startswith("UNFINISHED: The recording of this trace was killed, or its disk was full")
        assert report_data(trace)["verdict"] == "unfinished"
        monkeypatch.setattr("os.access", lambda *_arguments: False)  # somebody else's file: its lock cannot be seen
        assert report_text(trace).startswith("UNFINISHED: This trace is still being recorded, or was killed")
        monkeypatch.undo()
    with open_trace(tmp_path / "run.dltrace") as trace:
        writer.note_progress("forward pass", [])
        assert report_text(trace).startswith("UNFINISHED: This trace is still being recorded: the figures are")
        writer.finish(with_delta(0.0))
        assert report_text(trace).startswith("UNFINISHED: This trace was still being recorded when it was opened: open")
