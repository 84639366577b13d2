"""Which versions of Python and of the packages around a run are installed."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache

_PACKAGES = ("torch", "captum", "transformers", "numpy", "deeplift-tracer")


@cache
def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that a figure can depend on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version_of(importlib.metadata.distribution(package))
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def version_of(package: importlib.metadata.Distribution) -> str:
    """What `package.version` says: that parses the whole description too, which takes five times as long."""
    head = (package.read_text("METADATA") or "").partition("\n\n")[0]
    fields = (line.partition(": ") for line in head.splitlines())
    return next((value.strip() for name, _, value in fields if name == "Version"), "") or package.version
