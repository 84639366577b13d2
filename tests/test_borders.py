"""What may load what, proved in processes of their own; and that these proofs can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.synthetic import write_synthetic

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "captum", "transformers")


def loaded(code: str, *modules: str) -> set[str]:
    """Which of `modules` are loaded after `code` ran in a new process."""
    ending = f"\nimport sys; print('|' + '|'.join(m for m in {modules!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + ending], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split("|")) - {""}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "run.dltrace"
    write_synthetic(path, tensors=True)
    return path


def test_the_proof_can_fail() -> None:
    assert loaded("import torch", *HEAVY) == {"torch"}
    with pytest.raises(AssertionError, match="ModuleNotFoundError"):
        loaded("import no_such_module_at_all")


def test_import_tracer_loads_neither_torch_nor_the_ui_nor_numpy() -> None:
    assert loaded("import tracer; tracer.errors.TracerError", *HEAVY, "textual", "tui", "numpy") == set()


@pytest.mark.parametrize("command", ["['report', FILE]", "['report', FILE, '--json']", "['view', FILE]"])
def test_a_saved_trace_is_reported_without_torch_or_the_ui(file: Path, command: str) -> None:
    code = f"from tracer.cli import main; assert main({command.replace('FILE', repr(str(file)))}) == 0"
    assert loaded(code, *HEAVY, "textual", "tui") == set()


def test_everything_in_a_trace_is_read_without_torch(file: Path) -> None:
    code = (
        f"import tracer; trace = tracer.open_trace({str(file)!r}); node = trace.worst(1)[0]; trace.edges(node);"
        "trace.tensor(node, 'input'); trace.attributions; list(trace.nodes)"
    )
    assert loaded(code, *HEAVY, "textual") == set()


def test_the_ui_loads_no_model_library() -> None:
    assert loaded("import tui.app", *HEAVY, "textual") == {"textual"}


def test_the_tracer_loads_no_ui() -> None:
    assert loaded("import tracer; tracer.record, tracer.watch", *HEAVY[:1], "textual", "tui") == {"torch"}


def test_the_public_names_are_there_when_asked_for() -> None:
    import tracer

    assert set(tracer.__all__) <= set(dir(tracer))
    for name in tracer.__all__:
        assert getattr(tracer, name) is not None
    with pytest.raises(AttributeError, match="module 'tracer' has no attribute 'nothing'"):
        tracer.nothing  # noqa: B018
