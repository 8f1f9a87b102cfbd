"""Programs that benchmarks and tests hold as text import what exists."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def embedded_imports() -> list[tuple[str, str, str]]:
    """Return file, module and name of each import of ours in a program that stands in a string."""
    found: list[tuple[str, str, str]] = []
    for folder in ("benchmarks", "tests", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                    continue
                if "from merganser" not in node.value:
                    continue
                try:
                    program = ast.parse(node.value)
                except SyntaxError:
                    continue  # prose, or a part of a program
                found += [
                    (path.relative_to(ROOT).as_posix(), one.module, name.name)
                    for one in ast.walk(program)
                    if isinstance(one, ast.ImportFrom) and one.module
                    for name in one.names
                    if one.module.split(".")[0] == "merganser"
                ]
    return found


@pytest.mark.parametrize(("file", "module", "name"), embedded_imports())
def test_a_program_in_a_string_imports_what_exists(file: str, module: str, name: str):
    assert hasattr(import_module(module), name), file
