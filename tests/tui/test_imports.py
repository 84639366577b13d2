"""The terminal view starts without torch: asked of a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "captum", "transformers")


def loaded_after(statement: str) -> list[str]:
    code = f"{statement}\nimport sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_view_loads_nothing_heavy() -> None:
    assert loaded_after("import tui.app") == []


def test_this_test_can_fail() -> None:
    assert "torch" in loaded_after("import tui.app, torch")
