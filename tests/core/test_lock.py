"""The locked versions are those that pyproject.toml allows, with hashes, from no named index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
_PIN = re.compile(
    r"^([a-z0-9-]+)(?:\[[^]]+\])?==(\S+)(?: ; [^\\]+)? \\\n((?:    --hash=\S+.*\n?)+)", re.MULTILINE
)


def pins(name: str) -> dict[str, set[Version]]:
    """Read the versions of each distribution; another Python may have another one."""
    text = (ROOT / "requirements" / name).read_text("utf-8")
    found: dict[str, set[Version]] = {}
    for package, version, _ in _PIN.findall(text):
        found.setdefault(package, set()).add(Version(version))
    unpinned = re.sub(r"^#.*\n", "", _PIN.sub("", text), flags=re.MULTILINE).strip()
    assert unpinned == "", "each line is a version with its hashes"
    return found


def wanted(project: dict[str, Any], *, development: bool) -> list[Requirement]:
    extras: dict[str, list[str]] = project["project"]["optional-dependencies"]
    groups: dict[str, list[Any]] = project["dependency-groups"]
    listed: list[Any] = [*project["project"]["dependencies"], *extras["embedded"]]
    listed += [*extras["embedded-chat"], *groups["backend"]]
    if development:
        listed += groups["dev"]
    found = [Requirement(line) for line in listed if isinstance(line, str)]
    return [requirement for requirement in found if requirement.name != "merganser"]


@pytest.mark.parametrize(("name", "development"), [("run.txt", False), ("dev.txt", True)])
def test_every_dependency_is_locked_in_its_range(name: str, development: bool):  # noqa: FBT001 - pytest passes it by name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    locked = pins(name)

    outside = [
        str(requirement)
        for requirement in wanted(project, development=development)
        if not (versions := locked.get(canonicalize_name(requirement.name)))
        or not all(requirement.specifier.contains(v, prereleases=True) for v in versions)
    ]
    assert outside == [], "make lock"


def test_demo_and_tests_run_on_the_same_versions():
    run, dev = pins("run.txt"), pins("dev.txt")

    assert {name: dev.get(name) for name in run} == run
