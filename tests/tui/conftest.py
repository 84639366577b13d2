"""Lets Textual's pilot see sooner that a key's work is done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def short_waits() -> Iterator[None]:
    """Paint 240 times a second, and take the process for idle after 6 ms without work.

    Textual paints 60 times a second and waits twice a key in steps of 20 ms: with thousands of keys that is most of
    the tests' time. What a timer of ours brings (the detail follows the cursor after 40 ms) has to be waited for.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textual.screen.UPDATE_PERIOD", 1 / 240)
        patch.setattr("textual._wait.SLEEP_GRANULARITY", 0.006)
        patch.setattr("textual._wait.SLEEP_IDLE", 0.0006)
        yield
