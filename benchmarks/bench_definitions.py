"""Measure whether definitions stay whole: ``python benchmarks/bench_definitions.py TREE...``.

Of the definitions that fit in a chunk, the share that one chunk holds, by language; and what
chunking costs, as a multiple of what tree-sitter alone takes to parse the same bytes, in the same
rounds. Where definitions begin and end is told by others: Python's ``ast``, and universal-ctags
(``ctags``, which must be installed) for the other languages.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import subprocess
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import tree_sitter

from merganser.chunking import ChunkingOptions, chunk_document
from merganser.chunking.grammars import load_language
from merganser.chunking.languages import LANGUAGES
from merganser.documents.file_types import language_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = frozenset(
    {
        *("function", "method", "class", "struct", "interface", "enum", "trait", "namespace"),
        *("module", "record", "object", "macro", "func", "constructor", "singletonMethod", "type"),
    }
)


def main() -> None:
    """Print a line for each language of the trees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=1000, help="characters")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    options = ChunkingOptions(size=arguments.size, overlap=0, code_aware=True, sentences=True)
    files = defaultdict[str, list[tuple[Path, str]]](list)
    for tree in arguments.trees:
        for path in sorted(tree.rglob("*")):
            language = language_of(path.name)
            if path.is_file() and language in LANGUAGES and path.stat().st_size < 2_000_000:
                with warnings.catch_warnings(), path.open(encoding="utf-8", newline="") as file:
                    try:
                        files[str(language)].append((path, file.read()))
                    except UnicodeDecodeError:
                        continue
    print("language     files        kB  definitions    whole    cost")
    for language, found in sorted(files.items()):
        fit, whole = _whole(language, found, options)
        cost = _cost(language, [text for _, text in found], options, arguments.rounds)
        share = f"{whole / fit:8.4f}" if fit else "       -"
        size = sum(len(text) for _, text in found) / 1000
        print(f"{language:12}{len(found):6}{size:10,.0f}{fit:13,}{share}{cost:8.2f}")


def _whole(
    language: str, files: list[tuple[Path, str]], options: ChunkingOptions
) -> tuple[int, int]:
    """Count the definitions that fit in a chunk, and those that one holds."""
    fit = whole = 0
    for path, text in files:
        lines = text.split("\n")
        chunks = chunk_document(text, language=language, options=options)
        spans = [(chunk.start_line, chunk.end_line) for chunk in chunks]
        for first, last in _python(text) if language == "python" else _ctags(path):
            if len("\n".join(lines[first - 1 : last])) + 1 <= options.size:
                fit += 1
                whole += any(start <= first and last <= end for start, end in spans)
    return fit, whole


def _python(text: str) -> Iterator[tuple[int, int]]:
    """Yield first and last line of every definition, decorators included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            yield first, node.end_lineno or first


def _ctags(path: Path) -> Iterator[tuple[int, int]]:
    """Yield first and last line of every definition that ctags finds in a file."""
    command = ["ctags", "--output-format=json", "--fields=+neK", "-f", "-", str(path)]
    found = subprocess.run(command, capture_output=True, check=False)
    for line in found.stdout.splitlines():
        tag = json.loads(line)
        if "end" in tag and tag.get("kind") in _KINDS:
            yield tag["line"], tag["end"]


def _cost(language: str, texts: list[str], options: ChunkingOptions, rounds: int) -> float:
    """Return the CPU time of chunking, as a multiple of that of bare parsing."""
    grammar = load_language(language)
    assert grammar is not None
    bare: list[float] = []
    ours: list[float] = []
    for _ in range(rounds):
        gc.collect()
        start = time.process_time()
        for text in texts:
            tree_sitter.Parser(grammar).parse(text.encode())
        bare.append(time.process_time() - start)
        start = time.process_time()
        for text in texts:
            chunk_document(text, language=language, options=options)
        ours.append(time.process_time() - start)
    return min(ours) / max(min(bare), 1e-9)


if __name__ == "__main__":
    main()
