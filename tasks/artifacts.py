"""Artifacts of a run: their keys, and Markdown in which texts of models and users do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from merganser.documents.skipping import NAMED_FILES, describe_skipped
from merganser.humanize import harmless
from merganser.planning.contents import describe_contents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from merganser.indexing.run_report import IndexReport


def artifact_key(kind: str, name: str) -> str:
    """Return a key of lower-case letters, digits and dashes, as Prefect wants it.

    >>> artifact_key("plan", "My Code.v2")
    'plan-my-code-v2'
    """
    words = "".join(c if c.isascii() and c.isalnum() else "-" for c in f"{kind}-{name}".lower())
    return "-".join(part for part in words.split("-") if part)


def facts_table(
    facts: Iterable[tuple[str, Any]], head: tuple[str, str] = ("what", "how much")
) -> Iterator[str]:
    """Write names with their values as the lines of a table; numbers get thousands separators.

    >>> list(facts_table([("chunks", 1200)]))[-1]
    '| chunks | 1,200 |'
    """
    yield f"| {head[0]} | {head[1]} |"
    yield "| --- | --- |"
    for name, value in facts:
        shown = f"{value:,}" if isinstance(value, int | float) else one_line(str(value))
        yield f"| {name} | {shown} |"


def report_markdown(result: IndexReport) -> str:
    """Write the report of an index run: what changed and what to do, then the figures."""
    facts: list[tuple[str, Any]] = [
        ("status", result.status),
        ("served snapshot", result.served),
        ("files", result.files),
        ("added", result.added),
        ("changed", result.changed),
        ("moved", result.moved),
        ("removed", result.removed),
        ("unchanged", result.unchanged),
        ("failed", len(result.failed)),
        ("skipped", len(result.skipped)),
        ("chunks", result.chunks),
        ("texts embedded", result.texts_embedded),
        ("texts reused", result.texts_reused),
        ("bytes read", result.bytes),
        ("bytes written", result.bytes_written),
        ("segments", result.segments),
        ("embedding model", result.model or "none: only words can be searched"),
        ("seconds", round(result.seconds, 1)),
    ]
    lines = [f"## Index {code(result.name)}", "", _changes_sentence(result), ""]
    lines += [f"- everything again: {one_line(reason)}" for reason in result.reasons]
    lines += [f"- {one_line(note)}" for note in result.notes]
    lines += [
        f"- failed, its old version stays: {code(f.path)} ({one_line(f'{f.reason}: {f.detail}')})"
        for f in result.failed[:NAMED_FILES]
    ]
    lines += nested_list(describe_skipped(result.skipped, {*result.new_skips}))
    lines += nested_list(describe_contents(result.contents))
    return "\n".join([*lines, "", "### Figures", "", *facts_table(facts)])


def _changes_sentence(result: IndexReport) -> str:
    counts = {
        "added": result.added,
        "changed": result.changed,
        "moved": result.moved,
        "removed": result.removed,
        "failed": len(result.failed),
        "newly skipped": len(result.new_skips),
    }
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f"Snapshot {result.served} is served ({result.status}): {told or 'no file changed'}."


def nested_list(lines: Iterable[str]) -> Iterator[str]:
    """Write lines as a list in which those that are indented stand below the one before."""
    for line in lines:
        words = line.lstrip(" ")
        yield f"{' ' * (len(line) - len(words))}- {one_line(words)}"


def one_line(text: str) -> str:
    """Write a text on one line that may be a cell of a table."""
    return harmless(" ".join(text.split())).replace("|", "&#124;")


def quoted(text: str) -> str:
    """Write a text, which may have Markdown of its own, as a block quote."""
    return "\n".join(f"> {harmless(line)}".rstrip() for line in text.strip().splitlines())


def code(text: str) -> str:
    """Write a name as code on one line, from which no character of it breaks out."""
    words = " ".join(text.replace("`", "'").split())
    return f"`{words}`"
