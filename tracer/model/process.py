"""All the state of the process that this package changes while it needs to, and puts back.

Settings of libraries: Python's warning filters, PyTorch's fused transformer layers, whether compiled code runs
compiled, `torch.autograd.Function.apply`, captum's table of rules, the log and the experts of transformers. Of our
own: which thread has which models in use. State of one thread alone is in `tracer.model.undo`, the methods of captum's
DeepLift that are replaced during a recording in `tracer.model.captum_runs`.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.nn.modules._functions import BackwardHookFunction

from tracer.model.undo import undoing

_T = TypeVar("_T")


class Switch(Generic[_T]):
    """A setting of the whole process that stays at `value` while any thread needs it; the last one restores it.

    If each thread restored what it found, one that began while another had changed the setting would keep the change
    for good.
    """

    def __init__(self, get: Callable[[], _T], put: Callable[[_T], object], value: _T) -> None:
        self._get, self._put, self._value = get, put, value
        self._lock = threading.RLock()
        self._holders: set[object] = set()
        self._before: list[_T] = []

    @property
    def before(self) -> _T:
        """The setting as it was before, and will be again."""
        return self._before[0] if self._before else self._get()

    @contextmanager
    def on(self) -> Iterator[None]:
        """The setting is at `value` at least as long as this context lasts."""
        holder = object()
        with undoing(partial(self._leave, holder)):
            with self._lock:
                self._holders.add(holder)
                if not self._before:
                    self._before = [self._get()]
                    self._put(self._value)
            yield

    def _leave(self, holder: object) -> None:
        with self._lock:
            self._holders.discard(holder)
            if not self._holders and self._before:
                self._put(self._before[0])
                self._before = []


class ThreadStack(threading.local, Generic[_T]):
    """What contexts of this thread have put in force, the innermost last; each thread has its own."""

    def __init__(self) -> None:
        self.items: list[_T] = []

    @contextmanager
    def pushed(self, item: _T, switch: Switch[Any]) -> Iterator[None]:
        """`item` is the innermost, and `switch` is on, while the context lasts."""
        items = self.items
        depth = len(items)

        def undo() -> None:
            del items[depth:]

        with undoing(undo), switch.on():
            items.append(item)
            yield


users: dict[int, int] = {}
"""The thread that uses a model, by the id of each of its modules and parameters; kept by `tracer.model.exclusive`."""
users_lock = threading.RLock()


_filters: list[Any] = []


def _ignore_warnings(ignore: bool) -> None:
    if ignore:
        filters = warnings.catch_warnings()
        filters.__enter__()
        _filters.append(filters)
        warnings.simplefilter("ignore")
    while not ignore and _filters:
        _filters[-1].__exit__(None, None, None)
        _filters.pop()


no_warnings = Switch(lambda: False, _ignore_warnings, True)


no_fast_path = Switch(torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, False)
"""`nn.TransformerEncoderLayer` computes op by op, not in one fused op that no rule knows."""

_stance: list[Any] = []


def _run_eagerly(eagerly: bool) -> None:
    if eagerly:
        _stance.append(torch.compiler.set_stance("force_eager"))
    while not eagerly and _stance:
        _stance[-1].__exit__(None, None, None)
        _stance.pop()


_eager = Switch(lambda: False, _run_eagerly, True)


def uncompiled() -> AbstractContextManager[object]:
    """While this lasts, what was compiled runs uncompiled: no hook and no function mode sees into a compiled graph."""
    # Nothing is compiled before the compiler is loaded, and loading it takes seconds.
    return _eager.on() if "torch._dynamo" in sys.modules else nullcontext()


CustomRunner = Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]
"""Runs a custom autograd function: takes its name, its own `apply` and the arguments, and gives its result."""


_runners: ThreadStack[CustomRunner] = ThreadStack()


def _apply(cls: type, *args: Any, **kwargs: Any) -> Any:
    plain = partial(_apply_replaced.before.__func__, cls, **kwargs)
    if cls.__module__.startswith("tracer.") or not _runners.items:
        return plain(*args)
    if cls is BackwardHookFunction:  # torch's identity around a module: its views are not ops of the model
        with torch._C.DisableTorchFunction():
            return plain(*args)
    return _runners.items[-1](cls.__name__, plain, args)


_apply_replaced: Switch[Any] = Switch(
    lambda: torch.autograd.Function.__dict__["apply"],
    partial(setattr, torch.autograd.Function, "apply"),
    classmethod(_apply),
)


def custom_functions(run: CustomRunner) -> AbstractContextManager[None]:
    """Hand every `apply` of the user's autograd functions to `run(name, apply, args)` while the context lasts.

    No function mode sees such a call, so `torch.autograd.Function.apply` is replaced meanwhile. Calls in other threads
    run as they are.
    """
    return _runners.pushed(run, _apply_replaced)


def _gelu_in_captums_table() -> Any:
    from captum.attr._core import deep_lift

    return deep_lift.SUPPORTED_NON_LINEAR.get(nn.GELU)


def _put_gelu_in_captums_table(rule: Any) -> None:
    from captum.attr._core import deep_lift

    if rule is None:
        deep_lift.SUPPORTED_NON_LINEAR.pop(nn.GELU, None)
    else:
        deep_lift.SUPPORTED_NON_LINEAR.setdefault(nn.GELU, deep_lift.nonlinear if rule is True else rule)


captum_rules_gelu: Switch[Any] = Switch(_gelu_in_captums_table, _put_gelu_in_captums_table, True)
"""captum treats `nn.GELU` as it does its other activations, in every thread."""


def _transformers_log() -> Any:
    from transformers.utils import logging as settings

    return settings


def _show_progress_bars(shown: bool) -> None:
    settings = _transformers_log()
    if shown and not settings.is_progress_bar_enabled():
        settings.enable_progress_bar()
    elif not shown and settings.is_progress_bar_enabled():
        settings.disable_progress_bar()


_silent_log: Switch[int] = Switch(
    lambda: _transformers_log().get_verbosity(),
    lambda level: _transformers_log().set_verbosity(level),
    logging.ERROR,
)
_no_progress_bars: Switch[bool] = Switch(
    lambda: _transformers_log().is_progress_bar_enabled(), _show_progress_bars, False
)


@contextmanager
def quiet(progress_bars: bool = False) -> Iterator[None]:
    """Silences the load report, the log and, unless asked for, the progress bars of transformers for the context."""
    with _silent_log.on(), nullcontext() if progress_bars else _no_progress_bars.on():
        yield


ExpertsRunner = Callable[[Callable[..., Any], Callable[..., Any], nn.Module, tuple[Any, ...], dict[str, Any]], Any]
"""Runs a mixture of experts: takes the implementation that the model chose, the plain loop, the module and its
arguments."""


def _experts_interface() -> Any:
    """The table of implementations that all mixtures of experts of transformers share; None where it is not loaded."""
    return getattr(sys.modules.get("transformers.integrations.moe"), "ALL_EXPERTS_FUNCTIONS", None)


_experts_runners: ThreadStack[ExpertsRunner] = ThreadStack()


def _implementation(name: str, loop: Callable[..., Any]) -> Callable[..., Any]:
    chosen: Callable[..., Any] = type(_experts_interface()).get_interface(_experts_interface(), name, loop)

    def run(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        runners = _experts_runners.items
        return runners[-1](chosen, loop, module, args, kwargs) if runners else chosen(module, *args, **kwargs)

    return run


def _route_experts(routed: bool) -> None:
    interface = _experts_interface()
    if interface is not None and routed:
        interface.get_interface = _implementation
    elif interface is not None:
        interface.__dict__.pop("get_interface", None)


_experts_routed: Switch[bool] = Switch(lambda: False, _route_experts, True)


def experts(run: ExpertsRunner) -> AbstractContextManager[None]:
    """Hand the mixtures of experts of transformers that this thread runs to `run` while the context lasts.

    Their implementations (grouped, batched, a loop) differ in ops and agree in what goes in and comes out.
    """
    return _experts_runners.pushed(run, _experts_routed)
