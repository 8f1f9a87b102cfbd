"""``merganser files``: every file with its kind, encoding, outcome and reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

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
from merganser.documents.kinds import KINDS
from merganser.humanize import visible_name
from merganser.planning.contents import list_counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.indexing.inventory import FileFacts, Inventory

_COLUMNS = "{:8} {:>6} {:9} {:10} {:10} {}"


@click.command()
@file_argument
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--rag", "rags", multiple=True, help="Which rag; repeatable [default: all].")
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice(["indexed", "pending", "skipped", "failed"]),
    help="Only files of this outcome; repeatable.",
)
@click.option("--skipped", is_flag=True, help="Only files that are left out.")
@click.option("--reason", "reasons", multiple=True, help="Only files left out so; repeatable.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    help="Only documents of this kind; repeatable.",
)
@click.option("--read", is_flag=True, help="Read and chunk the files that no snapshot tells of.")
@click.option("--jsonl", "as_lines", is_flag=True, help="Print a line of JSON for each file.")
@json_option
def command(
    file: str,
    paths: tuple[str, ...],
    *,
    rags: tuple[str, ...],
    outcomes: tuple[str, ...],
    skipped: bool,
    reasons: tuple[str, ...],
    kinds: tuple[str, ...],
    read: bool,
    as_lines: bool,
    as_json: bool,
) -> int:
    """List the files of FILE: what is indexed, left out or failed, and why.

    PATH is a file, a folder or a pattern, as search prints them or from the working folder: with it
    this answers why a file is not found. No model is needed, before the first index neither. Exits
    with 1 when a PATH is nothing that an index could hold.
    """
    from merganser.indexing.inventory import Inventory

    config = load_shown(file, {})
    wanted = {*outcomes, *(("skipped",) if skipped else ())}

    def is_wanted(facts: FileFacts) -> bool:
        return (
            (not wanted or facts.outcome in wanted)
            and (not reasons or facts.reason in reasons)
            and (not kinds or facts.kind in kinds)
        )

    found: list[FileFacts] = []
    unknown = Counter[str]()
    indexes = indexes_by_name(config, rags)
    for name, index in indexes.items():
        inventory = Inventory(index)
        if len(indexes) > 1 and not (as_json or as_lines):
            say(f"== {name}")
        listed: Counter[str] = Counter()
        for facts in _choose(inventory, paths, read=read):
            unknown[facts.path] += facts.outcome == "unknown"
            if facts.outcome != "unknown" and not is_wanted(facts):
                continue
            if as_json:
                found.append(facts)
            elif as_lines:
                print_json(asdict(facts), on_one_line=True)
            else:
                _show(facts, first=not listed)
                listed[facts.outcome] += 1
        if not (as_json or as_lines):
            _sum_up(inventory, listed)
    if as_json:
        print_json({"files": [asdict(facts) for facts in found]})
    return EXIT_FAILED if any(count == len(indexes) for count in unknown.values()) else 0


def _choose(inventory: Inventory, paths: tuple[str, ...], *, read: bool) -> Iterator[FileFacts]:
    """Yield the files that the paths stand for, and why where that is none."""
    if not paths:
        yield from map(inventory.fill, inventory.files()) if read else inventory.files()
        return
    from merganser.store.filters import PathPatterns

    names = {path: inventory.name(path) for path in paths}
    chosen = {path: PathPatterns((path, name)) for path, name in names.items()}
    met: set[str] = set()
    # What is read takes time, and few are asked for.
    for facts in inventory.files():
        hits = [path for path, patterns in chosen.items() if facts.path in patterns]
        met.update(hits)
        if hits:
            yield inventory.fill(facts) if read else facts
    for path in paths:
        if path not in met:
            yield inventory.explain(names[path])


def _show(facts: FileFacts, *, first: bool) -> None:
    if first:
        say(_COLUMNS.format("outcome", "chunks", "kind", "language", "encoding", "path"))
    chunks = "-" if facts.chunks is None else f"{facts.chunks:,}"
    remarks = [
        f"{facts.reason}: {facts.detail}".strip(": "),
        f"{facts.change} since it was indexed" if facts.change in {"changed", "gone"} else "",
        facts.note,
        f"{len(facts.redactions):,} secrets replaced" if facts.redactions else "",
    ]
    told = "; ".join(remark for remark in remarks if remark)
    line = _COLUMNS.format(
        facts.outcome,
        chunks,
        facts.kind or "-",
        facts.language or "-",
        facts.encoding or "-",
        visible_name(facts.path),
    )
    say_folded(f"{line}  ({told})" if told else line)


def _sum_up(inventory: Inventory, listed: Counter[str]) -> None:
    where = "no snapshot yet" if inventory.served is None else f"snapshot {inventory.served}"
    say(f"{sum(listed.values()):,} files: {list_counts(listed) or 'none'} ({where})")
    for note in inventory.notes:
        say_folded(f"note: {note}")
