"""Which models are in use by which thread: hooks, rules and frozen parameters of two runs on one model would mix."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from tracer.errors import ObservationError
from tracer.model.hooks import modules_of
from tracer.model.undo import undoing

_lock = threading.RLock()
_threads: dict[int, int] = {}
"""By the id of a module or parameter the thread that has it in use."""


@contextmanager
def in_use(model: nn.Module) -> Iterator[None]:
    """`model`, its modules and its parameters are this thread's while the context lasts.

    `ObservationError` where another thread has any of them in use.
    """
    thread = threading.get_ident()
    parts: set[int] = set()
    for module in modules_of(model):
        parts.add(id(module))
        if module._parameters:
            parts.update(id(own) for own in module._parameters.values() if own is not None)
    own: set[int] = set()

    def undo() -> None:
        with _lock:  # another thread may be looking
            for part in own:
                _threads.pop(part, None)

    with undoing(undo):
        with _lock:
            held = parts & _threads.keys()
            if any(_threads[part] != thread for part in held):
                raise ObservationError(
                    "another thread is attributing or recording with this model, or with a part of it: wait for its "
                    "end, or give each thread a copy of its own, copy.deepcopy(model)"
                )
            own |= parts - held
            _threads.update(dict.fromkeys(own, thread))
        yield
