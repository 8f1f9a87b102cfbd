"""Measure whether definitions stay whole: ``python benchmarks/bench_definitions.py TREE...``.

Of the definitions that fit in a chunk, the share that one chunk holds, by language; and what
chunking costs, as a multiple of what tree-sitter alone takes to parse the same bytes, in the same
rounds. Where definitions begin and end is told by others: Python's ``ast``, and universal-ctags
(``ctags``, which must be installed) for the other languages. For those of which ctags knows no
ends, bring what a compiler says: ``--definitions FILE``, a JSON list of ``[path, first line, last
line, name]``, lines from 1. Files it says nothing of count as without definitions.
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
    from collections.abc import Callable, Iterable, Iterator

    Finder = Callable[[Path, str], Iterable[tuple[int, int]]]

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
    parser.add_argument("--definitions", type=Path, metavar="FILE", help="of all files read")
    parser.add_argument("--language", action="append", help="only this one; can be repeated")
    parser.add_argument("--missed", action="store_true", help="list definitions that are parted")
    arguments = parser.parse_args()
    oracle = _told(arguments.definitions) if arguments.definitions else None
    options = ChunkingOptions(size=arguments.size, overlap=0, code_aware=True, sentences=True)
    files = defaultdict[str, list[tuple[Path, str]]](list)
    for tree in arguments.trees:
        for path in sorted(tree.rglob("*")):
            language = language_of(path.name)
            if arguments.language and language not in arguments.language:
                continue
            if path.is_file() and language in LANGUAGES and path.stat().st_size < 2_000_000:
                with warnings.catch_warnings(), path.open(encoding="utf-8", newline="") as file:
                    try:
                        files[str(language)].append((path, file.read()))
                    except UnicodeDecodeError:
                        continue
    print("language     files        kB  definitions    whole    cost")
    for language, found in sorted(files.items()):
        found_by = oracle or (_python if language == "python" else _ctags)
        fit, missed = _parted(found, found_by, language, options)
        cost = _cost(language, [text for _, text in found], options, arguments.rounds)
        share = f"{1 - len(missed) / fit:8.4f}" if fit else "       -"
        size = sum(len(text) for _, text in found) / 1000
        print(f"{language:12}{len(found):6}{size:10,.0f}{fit:13,}{share}{cost:8.2f}")
        if arguments.missed:
            print(*(f"  {one}" for one in missed), sep="\n")


def _parted(
    files: list[tuple[Path, str]], find: Finder, language: str, options: ChunkingOptions
) -> tuple[int, list[str]]:
    """Count the definitions that fit in a chunk, and list those that no chunk holds."""
    fit = 0
    missed: list[str] = []
    for path, text in files:
        lines = text.split("\n")
        chunks = chunk_document(text, language=language, options=options)
        spans = [(chunk.start_line, chunk.end_line) for chunk in chunks]
        for first, last in find(path, text):
            if len("\n".join(lines[first - 1 : last])) + 1 <= options.size:
                fit += 1
                if not any(start <= first and last <= end for start, end in spans):
                    missed.append(f"{path}:{first}-{last}")
    return fit, missed


def _told(file: Path) -> Finder:
    """Read what an oracle wrote about every file of a tree."""
    spans = defaultdict[Path, list[tuple[int, int]]](list)
    for path, first, last, _ in json.loads(file.read_text(encoding="utf-8")):
        spans[Path(path).resolve()].append((first, last))
    return lambda path, _: spans.get(path.resolve(), [])


def _python(_path: Path, text: str) -> Iterator[tuple[int, int]]:
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


def _ctags(path: Path, _text: str) -> Iterator[tuple[int, int]]:
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
