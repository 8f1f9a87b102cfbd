"""Every reason for leaving a file out has a row in the one table, and in the documentation."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.documents.skipping import SKIP_REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]

# What makes a reason, and which of its arguments the reason is.
MAKERS = {"SkipDocument": 0, "Skipped": 1, "_skip": 1, "Listed": 1}


def reasons_in(tree: ast.Module) -> Iterator[str]:
    """Yield every reason that a module writes out."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args) if (
                name in MAKERS and len(args) > MAKERS[name]
            ):
                yield from constants(args[MAKERS[name]])
            case (
                ast.FunctionDef(returns=ast.expr() as returned) | ast.AnnAssign(annotation=returned)
            ):
                yield from literals(returned)
            case _:
                pass


def constants(argument: ast.expr) -> Iterator[str]:
    """Yield the strings that an argument may be."""
    match argument:
        case ast.Constant(value=str(reason)):
            yield reason
        case ast.IfExp(body=body, orelse=orelse):
            yield from constants(body)
            yield from constants(orelse)
        case _:
            pass


def literals(annotation: ast.expr) -> Iterator[str]:
    """Yield the strings of a ``Literal`` beside a text: a reason and what was seen."""
    for node in ast.walk(annotation):
        match node:
            case ast.Subscript(
                value=ast.Name(id="tuple"),
                slice=ast.Tuple(elts=[ast.Subscript(value=ast.Name(id="Literal"), slice=inner), _]),
            ):
                listed = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                yield from (reason for one in listed for reason in constants(one))
            case _:
                pass


def reasons_of_the_source() -> set[str]:
    sources = (ROOT / "src" / "merganser").rglob("*.py")
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in sources)
    return {reason for tree in trees for reason in reasons_in(tree)} - {""}


def test_every_reason_of_the_source_has_a_row_and_every_row_a_use() -> None:
    assert set(SKIP_REASONS) == reasons_of_the_source()


def test_the_documentation_lists_every_reason_as_the_program_says_it() -> None:
    page = (ROOT / "docs" / "documents.md").read_text(encoding="utf-8")

    missing = [
        row
        for reason, said in SKIP_REASONS.items()
        if (row := f"| `{reason}` | {said.meaning} | {said.remedy} |") not in page
    ]

    assert missing == []
