"""The versions that a trace names."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import numpy as np
import pytest

from tracer.recording.versions import installed_versions, version_of

METADATA = "Metadata-Version: 2.1\nName: thing\n{version}Summary: Version: 9\n\nVersion: 8\n"


def test_the_versions_are_those_of_the_packages_themselves() -> None:
    versions = installed_versions()
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__
    assert versions["torch"] == importlib.metadata.version("torch")


def test_the_version_of_every_installed_package_is_the_standard_librarys() -> None:
    packages = list(importlib.metadata.distributions())
    assert len(packages) > 10
    assert [version_of(package) for package in packages] == [package.version for package in packages]


@pytest.mark.parametrize(
    "line", ["Version: 1.2+cpu\n", "Version:  1.2+cpu\n", "Version:1.2+cpu\n", "version: 1.2+cpu\n"]
)
@pytest.mark.parametrize("file", ["METADATA", "PKG-INFO"])
def test_the_version_is_read_from_the_head_of_either_file(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).write_text(METADATA.format(version=line))
    assert version_of(importlib.metadata.Distribution.at(tmp_path)) == "1.2+cpu"
