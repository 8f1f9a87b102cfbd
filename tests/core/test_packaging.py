"""The wheel holds the whole tree under one import name, and the changelog knows the version."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAPPED = {"flows": "merganser/flows", "tasks": "merganser/tasks", "configs": "merganser/configs"}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(folder), str(copy)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def tree_names() -> set[str]:
    core = {
        f"merganser/{path.relative_to(ROOT / 'src' / 'merganser').as_posix()}"
        for pattern in ("*.py", "*.css", "*.html", "*.svg")
        for path in (ROOT / "src" / "merganser").rglob(pattern)
        if not (
            ROOT / "src" / "merganser" / path.relative_to(ROOT / "src/merganser").parts[0]
        ).is_symlink()
    }
    mapped = {
        f"{target}/{path.name}"
        for folder, target in MAPPED.items()
        for pattern in ("*.py", "*.yaml", "*.json", "*.jsonl")
        for path in (ROOT / folder).glob(pattern)
    }
    deployments = {"merganser/deployments/__init__.py", "merganser/deployments/server.env"}
    return core | mapped | deployments | {"merganser/py.typed"}


def test_the_wheel_holds_every_module_of_the_tree_and_nothing_else(wheel_names: set[str]) -> None:
    assert tree_names() == wheel_names


def test_the_changelog_has_a_section_for_what_is_not_released() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert "## Unreleased" in text or f"## {version}" in text
