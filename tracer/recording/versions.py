"""The installed versions of Python and of the packages that a run uses."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache

_PACKAGES = ("torch", "captum", "transformers", "numpy", "deeplift-tracer")


@cache
def installed_versions() -> dict[str, str]:
    """The versions of Python and of the packages on which figures can depend, by name."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version_of(importlib.metadata.distribution(package))
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def version_of(package: importlib.metadata.Distribution) -> str:
    """The same as `package.version`, which takes five times as long: it parses the description too."""
    head = (package.read_text("METADATA") or "").partition("\n\n")[0]
    fields = (line.partition(": ") for line in head.splitlines())
    return next((value.strip() for name, _, value in fields if name == "Version"), "") or package.version
