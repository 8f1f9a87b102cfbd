"""Measure reading and chunking: ``python benchmarks/bench_chunk.py [TREE] [--size 1000]``.

CPU seconds of this one process, with listing, reading, decoding, hashing and parsing, the least of
``--rounds``. By default the tree is the installed Prefect package's ``*.py``, which the demo
indexes. "parses" is the share of Python chunks that are valid Python by themselves when dedented; a
chunker that ignores structure reaches some 10 %.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib.util
import statistics
import textwrap
import time
import warnings
from pathlib import Path

from merganser.chunking import Chunk, ChunkingOptions, chunk_document
from merganser.chunking.grammars import parse
from merganser.chunking.languages import LANGUAGES
from merganser.documents.reading import DocumentText, read_document
from merganser.documents.scanning import scan_documents
from merganser.errors import SkipDocument

Read = list[tuple[str | None, DocumentText]]


def main() -> None:
    """Print the figures of one tree."""
    arguments = _arguments()
    options = ChunkingOptions(
        size=arguments.size, overlap=arguments.overlap, code_aware=not arguments.plain
    )
    docs = [f"{arguments.tree}/{arguments.glob}"]
    _chunk("x = 1\n", "python", options)  # the grammar is imported once
    cpu: list[float] = []
    parsing: list[float] = []
    read: Read = []
    chunks: list[list[Chunk]] = []
    for _ in range(arguments.rounds):
        gc.collect()
        start = time.process_time()
        read = _read(docs)
        chunks = [_chunk(text.text, language, options) for language, text in read]
        cpu.append(time.process_time() - start)
        parsing.append(_parse_only(read))
    _report(read, chunks, min(cpu), min(parsing))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    spec = importlib.util.find_spec("prefect")
    default = Path(spec.origin).parent if spec and spec.origin else Path()
    parser.add_argument("tree", nargs="?", type=Path, default=default)
    parser.add_argument("--glob", default="**/*.py")
    parser.add_argument("--size", type=int, default=1000, help="characters")
    parser.add_argument("--overlap", type=int, default=0, help="characters")
    parser.add_argument("--plain", action="store_true", help="not code aware")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def _chunk(text: str, language: str | None, options: ChunkingOptions) -> list[Chunk]:
    """Chunk one document with the benchmark's options."""
    return chunk_document(text, language=language, options=options)


def _read(docs: list[str]) -> Read:
    read: Read = []
    for document in scan_documents(docs, base=Path()).documents:
        try:
            read.append((document.language, read_document(document)))
        except SkipDocument:
            continue
    return read


def _parse_only(read: Read) -> float:
    """Measure what the parser alone takes: the floor of code-aware chunking."""
    start = time.process_time()
    for language, text in read:
        if language in LANGUAGES:
            parse(text.text.encode("utf-8", "replace"), str(language))
    return time.process_time() - start


def _report(read: Read, chunks: list[list[Chunk]], cpu: float, parsing: float) -> None:
    total = sum(text.size_bytes for _, text in read)
    lengths = sorted(len(chunk.text) for document in chunks for chunk in document)
    lossless = sum(
        "".join(chunk.text for chunk in document) == text.text
        for document, (_, text) in zip(chunks, read, strict=True)
    )
    python = [
        chunk.text
        for document, (language, _) in zip(chunks, read, strict=True)
        if language == "python"
        for chunk in document
    ]
    print(f"files      {len(read):>10,}")
    print(f"bytes      {total:>10,}")
    print(f"chunks     {len(lengths):>10,}")
    print(f"lossless   {lossless:>10,} files (with overlap 0)")
    print(f"length     {statistics.median(lengths):>10,.0f} median, {lengths[-1]:,} longest")
    print(f"crumbs     {sum(n < 100 for n in lengths) / len(lengths):>10.1%} below 100 characters")
    print(f"CPU        {cpu:>10.2f} s")
    print(f"speed      {total / cpu / 1e6:>10.1f} MB/s")
    print(f"parser     {cpu / parsing:>10.2f} times the parser alone" if parsing else "")
    if python:
        print(f"parses     {sum(map(_parses, python)) / len(python):>10.1%} of Python chunks")


def _parses(code: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes of half a string literal
        try:
            ast.parse(textwrap.dedent(code))
        except (SyntaxError, ValueError):
            return False
    return True


if __name__ == "__main__":
    main()
