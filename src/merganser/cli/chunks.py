"""``merganser chunks``: how the config cuts a file, beside what the served snapshot has of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from merganser.cli import EXIT_FAILED
from merganser.cli.options import (
    file_argument,
    indexes_by_name,
    json_option,
    load_shown,
    print_json,
)
from merganser.cli.terminal import say, say_folded
from merganser.humanize import visible_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.chunking import Chunk
    from merganser.indexing.inventory import FileFacts, Inventory


@click.command()
@file_argument
@click.argument("path")
@click.option("--rag", "rags", multiple=True, help="Which rag; repeatable [default: all].")
@click.option("--no-text", is_flag=True, help="Leave out the text of the chunks.")
@json_option
def command(file: str, path: str, *, rags: tuple[str, ...], no_text: bool, as_json: bool) -> int:
    """Show how FILE cuts the document PATH: place, symbol, kind, size, overlap and text.

    It is cut as the config says now, without a model; and it is said whether the served snapshot
    has the same chunks. Exits with 1 when no index of FILE takes the document in.
    """
    from merganser.indexing.inventory import Inventory

    config = load_shown(file, {})
    cuts = {
        name: _cut(Inventory(index), path) for name, index in indexes_by_name(config, rags).items()
    }
    if as_json:
        print_json({"indexes": {name: cut.to_json(text=not no_text) for name, cut in cuts.items()}})
    else:
        for name, cut in cuts.items():
            if len(cuts) > 1:
                say(f"== {name}")
            _show(cut, text=not no_text)
    return 0 if any(cut.chunks for cut in cuts.values()) else EXIT_FAILED


@dataclass(frozen=True, slots=True)
class _Cut:
    """How an index cuts a file.

    Attributes:
        facts: The file.
        chunks: In its order.
        is_served: Whether the served snapshot has the same chunks; None when it has none of it.
        remark: What is said of the served snapshot.
    """

    facts: FileFacts
    chunks: list[Chunk]
    is_served: bool | None
    remark: str

    @property
    def overlaps(self) -> list[int]:
        """How many characters each chunk repeats of the one before."""
        pairs = pairwise(self.chunks)
        return [0, *(max(0, before.end_char - chunk.start_char) for before, chunk in pairs)]

    def to_json(self, *, text: bool) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        chunks = [
            {**chunk._asdict(), "size": len(chunk.text), "overlap": overlap}
            for chunk, overlap in zip(self.chunks, self.overlaps, strict=False)
        ]
        if not text:
            for chunk in chunks:
                del chunk["text"]
        facts = self.facts
        return {
            "path": facts.path,
            "outcome": facts.outcome,
            "kind": facts.kind,
            "language": facts.language,
            "encoding": facts.encoding,
            "reason": facts.reason,
            "detail": facts.detail,
            "note": facts.note,
            "chunks": chunks,
            "served": self.is_served,
            "remark": self.remark,
        }


def _cut(inventory: Inventory, given: str) -> _Cut:
    path = inventory.name(given)
    document = inventory.document(path)
    if document is None:
        facts = next((f for f in inventory.files() if f.path == path), inventory.explain(path))
        return _Cut(facts, [], None, "")
    facts, chunks = inventory.read(document)
    return _Cut(facts, chunks, *_compare(inventory, path, chunks))


def _compare(inventory: Inventory, path: str, chunks: list[Chunk]) -> tuple[bool | None, str]:
    """Tell whether the served snapshot has the same chunks of a file, and why not."""
    if inventory.served is None:
        return None, "no snapshot is served yet"
    snapshot = f"snapshot {inventory.served}"
    if inventory.row(path) is None:
        return None, f"{snapshot} does not hold the file"
    from merganser.store.reader import open_snapshot

    with open_snapshot(inventory.folder.path, generation=inventory.served) as opened:
        stored = opened.file_chunks(path)
    served = [(c.text, c.start_line, c.end_line, c.symbol, c.kind, c.place) for c in stored]
    cut = [(c.text, c.start_line, c.end_line, c.symbol, c.kind, c.place) for c in chunks]
    if served == cut:
        return True, f"{snapshot} has the same {len(stored):,} chunks"
    why = "the file changed" if inventory.is_chunked_alike else "the chunking changed"
    return False, f"{snapshot} has {len(stored):,} other chunks: {why} since"


def _show(cut: _Cut, *, text: bool) -> None:
    facts = cut.facts
    if not cut.chunks:
        why = f"{facts.reason}: {facts.detail}".strip(": ")
        say_folded(f"{visible_name(facts.path)} has no chunks ({facts.outcome}; {why or 'empty'})")
        return
    known = ", ".join(filter(None, (facts.kind, facts.language, facts.encoding, facts.note)))
    say_folded(f"{visible_name(facts.path)}: {len(cut.chunks):,} chunks ({known})")
    for chunk, overlap in zip(cut.chunks, cut.overlaps, strict=True):
        say_folded(_head(facts.path, chunk, overlap))
        if text:
            for line in _lines(chunk.text):
                say(f"   | {line}")
    say_folded(cut.remark)


def _head(path: str, chunk: Chunk, overlap: int) -> str:
    lines = f"{visible_name(path)}:{chunk.start_line}-{chunk.end_line}"
    where = f"{visible_name(path)} ({chunk.place})" if chunk.place else lines
    symbol = f"  {chunk.symbol}" if chunk.symbol else ""
    repeated = f", {overlap:,} of them repeated" if overlap else ""
    return f"{chunk.ord + 1}. {where}{symbol}  {chunk.kind}, {len(chunk.text):,} chars{repeated}"


def _lines(text: str) -> Iterator[str]:
    yield from text.removesuffix("\n").split("\n")
