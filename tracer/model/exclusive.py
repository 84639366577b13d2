"""Which models are in use by which thread: hooks, rules and frozen parameters of two runs on one model would mix."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from tracer.errors import ObservationError
from tracer.model.hooks import modules_of
from tracer.model.process import users, users_lock
from tracer.model.undo import undoing


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
        with users_lock:  # another thread may be looking
            for part in own:
                users.pop(part, None)

    with undoing(undo):
        with users_lock:
            held = parts & users.keys()
            if any(users[part] != thread for part in held):
                raise ObservationError(
                    "another thread is attributing or recording with this model, or with a part of it: wait for its "
                    "end, or give each thread a copy of its own, copy.deepcopy(model)"
                )
            own |= parts - held
            users.update(dict.fromkeys(own, thread))
        yield
