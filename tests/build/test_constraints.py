from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


def requirements(root: Path) -> Iterator[Requirement]:
    document = project(root)
    groups = document["project"]["optional-dependencies"].values()
    for text in (
        *document["build-system"]["requires"],
        *document["project"]["dependencies"],
        *(text for group in groups for text in group),
    ):
        requirement = Requirement(text)
        if requirement.name != "stnls":
            yield requirement


def pins(root: Path, python: str) -> dict[str, str]:
    found = {}
    for line in (root / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate({"python_version": python}):
                name = canonicalize_name(pin.name)
                assert name not in found, f"{name} is pinned twice for Python {python}"
                (specifier,) = pin.specifier
                assert specifier.operator == "==", line
                found[name] = specifier.version
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_pinned_within_its_range(root: Path, python: str) -> None:
    pinned = pins(root, python)
    for requirement in requirements(root):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not pinned for Python {python}"
        assert requirement.specifier.contains(pinned[name]), (str(requirement), pinned[name])


def test_both_opencv_wheels_are_pinned_alike(root: Path) -> None:
    for python in PYTHONS:
        pinned = pins(root, python)
        assert pinned["opencv-contrib-python"] == pinned["opencv-contrib-python-headless"]


def test_requirements_have_an_upper_end(root: Path) -> None:
    for requirement in requirements(root):
        assert any(part.operator == "<" for part in requirement.specifier), str(requirement)


def test_pythons_are_those_of_the_metadata_and_of_the_doctor(root: Path) -> None:
    from stnls_cli.doctor import packages

    assert project(root)["project"]["requires-python"] == ">=3.10,<3.14"
    assert packages.PYTHONS == ((3, 10), (3, 13))
