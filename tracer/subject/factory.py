"""Any PyTorch model from `package.module:factory`, with one clear line when that fails."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from torch import nn

from tracer.errors import ModelError
from tracer.model.unsupported import check_model

_FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_factory(name: str) -> bool:
    """Whether a model's name has the form package.module:factory and no file or directory has that very name."""
    return _FACTORY.fullmatch(name) is not None and not Path(name).exists()


def load_factory(name: str) -> nn.Module:
    """The model, in eval mode, that the factory gives: a function or a class to call, or a module as it stands.

    Modules are looked for in the current directory first, which stays on `sys.path`: a model may import as it runs.
    """
    module_name, _, attribute_path = name.partition(":")
    here = os.getcwd()
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        factory: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ModelError(f"{module_name} needs the module {error.name!r}, which is not installed") from error
        raise ModelError(
            f"there is no module {error.name!r} in the current directory or among the installed packages: "
            "give package.module:factory as Python would import it here"
        ) from error
    except (Exception, SystemExit) as error:  # a module's own code can raise anything
        raise ModelError(f"importing {module_name} raises {_said(error)}") from error
    for attribute in attribute_path.split("."):
        try:
            factory = getattr(factory, attribute)
        except AttributeError as error:
            raise ModelError(
                f"{module_name} has no {attribute_path!r}: give a function that returns the model"
            ) from error
    model: Any = factory
    if not isinstance(factory, nn.Module):
        if not callable(factory):
            raise ModelError(f"{name} is {type(factory).__name__}: give a function that returns the model")
        try:
            model = factory()
        except (Exception, SystemExit) as error:
            raise ModelError(f"{name}() raises {_said(error)}") from error
        if not isinstance(model, nn.Module):
            raise ModelError(f"{name}() returns {type(model).__name__}: it must return a torch.nn.Module")
    module: nn.Module = model
    check_model(module)
    return module.eval()


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
