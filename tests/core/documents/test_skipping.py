"""Every reason for leaving a file out has a row in the one table, and in the documentation."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.documents.scanning import Skipped
from merganser.documents.skipping import SKIP_REASONS, describe_skipped

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


def test_unusual_reasons_come_first_with_their_files_and_usual_ones_take_a_line() -> None:
    skipped = [
        *(Skipped(f"data/{n}.csv", "too large", f"{n} bytes") for n in range(7)),
        *(Skipped(f"{n}/.gitkeep", "empty") for n in range(3)),
        Skipped("build/", "ignored", "by git's rules"),
    ]

    told = list(describe_skipped(skipped, {"data/6.csv"}))

    assert told == [
        "skipped: 3 empty, 1 ignored, 7 too large",
        "  7 too large, 1 of them new: larger than its format's limit",
        "    new: data/6.csv (6 bytes)",
        *(f"    data/{n}.csv ({n} bytes)" for n in range(4)),
        "    and 2 more",
        "    to take in: split it, or leave out of it what is no text",
        "  3 empty: 0/.gitkeep, 1/.gitkeep, 2/.gitkeep",
        f"  1 ignored: build/; to take in: {SKIP_REASONS['ignored'].remedy}",
    ]


def test_what_is_seen_of_all_alike_is_said_once() -> None:
    skipped = [Skipped(f"{n}.pdf", "extra", "pip install x") for n in range(2)]

    told = list(describe_skipped(skipped))

    assert told[1:-1] == [
        "  2 extra: its reader is not installed (pip install x)",
        "    0.pdf",
        "    1.pdf",
    ]


def test_an_empty_file_that_should_have_had_text_is_named_before_those_that_never_had() -> None:
    skipped = [Skipped("a/.gitkeep", "empty"), Skipped("scan.pdf", "empty", "no text")]

    told = list(describe_skipped(skipped))

    assert told[2:4] == ["    scan.pdf (no text)", "    a/.gitkeep"]


def test_a_name_with_line_ends_stays_on_its_line_and_makes_nothing_of_its_own() -> None:
    told = list(describe_skipped([Skipped("a\n  9 fine\x1b[2J.bin", "binary", "NUL")]))

    assert told[2] == r"    a\n  9 fine\x1b[2J.bin"


def test_a_reason_of_another_version_is_told_too() -> None:
    told = list(describe_skipped([Skipped("a.xyz", "haunted", "by a ghost")]))

    assert told[1:] == ["  1 haunted: left out (by a ghost)", "    a.xyz"]
