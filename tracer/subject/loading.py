"""Loading a Hugging Face text model and its tokenizer, with one clear line when that fails."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from tracer.errors import ModelError
from tracer.model.process import quiet
from tracer.subject.task import MODEL_KINDS, TASKS, Task, auto_class, task_of


def load_subject(name: str, task: Task | None = None) -> tuple[nn.Module, Any]:
    """(model in eval mode, tokenizer) of a hub id or of a local directory that `save_pretrained` wrote.

    The model has the head for `task`; with None the task is that of the architecture its config names. A model in the
    local cache is used as it lies there; only one that is not is looked for on the hub.
    """
    if not name.strip():
        raise ModelError("the model's name is empty: give a local directory or a hub id such as 'owner/name'")
    local = Path(name).expanduser()
    if local.is_dir():
        if not (local / "config.json").is_file():
            raise ModelError(f"{name} holds no config.json: give a directory that save_pretrained wrote")
        return _load(str(local), name, task)
    if local.is_file():
        raise ModelError(f"{name} is a file: give the directory that holds config.json, or a hub id")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no directory {name!r}: give a local directory or a hub id such as 'owner/name'")
    cached = _is_cached(name)
    if not cached:
        _ask_hub(name)
    return _load(name, name, task, local_files_only=cached)


def _is_cached(name: str) -> bool:
    """Whether the cache holds the config and some weights of a hub id."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    weights = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    try:
        files = [try_to_load_from_cache(name, file) for file in ("config.json", *weights)]
    except HFValidationError as error:
        raise ModelError(f"{name!r} is neither a local directory nor a hub id such as 'owner/name'") from error
    return isinstance(files[0], str) and any(isinstance(file, str) for file in files[1:])


def _ask_hub(name: str) -> None:
    """Raises `ModelError` unless the hub can be reached and has the model.

    Asked first because loading itself tries again for half a minute before it gives up.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=10)
    except GatedRepoError as error:
        raise ModelError(f"{name} is gated: accept its terms on the hub and log in with 'hf auth login'") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {name!r} that you may read: check the name, log in with 'hf auth login' if it is "
            "private, or give a local directory"
        ) from error
    except HfHubHTTPError as error:
        raise ModelError(f"the hub refused {name}: {_first_line(error)}") from error
    except Exception as error:  # the errors of a failed connection depend on the hub's HTTP library
        raise ModelError(
            f"{name} is not in the local cache and the hub cannot be reached: give a local directory, or run once with "
            "a network connection"
        ) from error


def _load(source: str, name: str, task: Task | None, **options: Any) -> tuple[nn.Module, Any]:
    from transformers import AutoTokenizer

    with quiet(progress_bars=source == name and not Path(source).is_dir()):
        wanted = task or _task_in_config(source, name, **options)
        try:
            model, report = auto_class(wanted).from_pretrained(source, output_loading_info=True, **options)
        except Exception as error:  # anything a damaged or foreign file can cause; said in one line
            raise ModelError(f"{name} does not load as a {MODEL_KINDS[wanted]}: {_first_line(error)}") from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
        except Exception as error:
            raise ModelError(f"{name} has no tokenizer that loads: {_first_line(error)}") from error
    # Without tokenizer files transformers builds a tokenizer that knows its special tokens and nothing else.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ModelError(f"{name} has no tokenizer files: save the tokenizer into the same directory")
    model.config.name_or_path = name
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        warnings.warn(f"{name} lacks trained weights, random ones stand in for them: {missing}", stacklevel=3)
    return model.eval(), tokenizer


def _task_in_config(source: str, name: str, **options: Any) -> Task:
    """The task of the first architecture in a model's config whose name tells one."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, **options)
    except Exception as error:  # a damaged file, or a model type that this transformers does not know
        raise ModelError(f"the config of {name} does not load: {_first_line(error)}") from error
    architectures = [str(architecture) for architecture in getattr(config, "architectures", None) or ()]
    found = next((task for architecture in architectures if (task := task_of(architecture)) is not None), None)
    if found is None:
        seen = " or ".join(architectures) or "of no named architecture"
        raise ModelError(
            f"{name} is {seen}, by its name no sequence classifier and no causal or masked language model: "
            f"say how to load it with --task {', '.join(TASKS)}"
        )
    return found


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
