"""Refuses what cannot be recorded, before anything runs."""

from __future__ import annotations

from typing import get_args

from torch import nn

from tracer.errors import InputError, ObservationError
from tracer.model.captum_runs import being_told
from tracer.model.undo import active_modes
from tracer.model.unsupported import check_model
from tracer.recording.options import Capture
from tracer.recording.recorder import Recorder
from tracer.recording.reference_log import ReferenceLog


def check_request(model: nn.Module, capture: Capture) -> None:
    """Raise `ModelError` if calls of the model cannot be observed, `InputError` if the capture level is unknown."""
    if capture not in get_args(Capture):
        raise InputError(f"capture is {capture!r}; expected 'summary' or 'tensors'")
    check_model(model)


def refuse_nesting() -> None:
    """Raise `ObservationError` if this thread is recording already: both recordings would see each other's calls."""
    if being_told() or any(isinstance(mode, (Recorder, ReferenceLog)) for mode in active_modes()):
        raise ObservationError(
            "a recording is under way in this thread already: end its `with` block before the next one begins"
        )
