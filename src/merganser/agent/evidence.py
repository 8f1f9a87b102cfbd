"""Numbered evidence: what a turn retrieved, under the numbers by which it may be cited.

Numbers are derived from the message history, never from a counter in memory, so that a resumed
turn, whose earlier tool calls are replayed, numbers passages as before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from merganser.agent.answer import SourceLine
from merganser.documents.secrets import redact_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from merganser.retrieval.hits import Freshness, Hit


@dataclass(frozen=True, slots=True)
class Evidence(SourceLine):
    """One passage that the model was shown.

    Attributes:
        text: The passage; empty where only the place matters.
    """

    text: str

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What makes two passages the same one."""
        return (self.source, self.path, self.start_line, self.end_line)


def number_hits(
    hits: Iterable[Hit],
    *,
    source: str,
    first: int = 1,
    known: Mapping[tuple[str, str, int, int], int] | None = None,
) -> list[Evidence]:
    """Number hits; a passage that was shown before keeps its number.

    Secrets of known forms are replaced by marks, also those of an index that keeps them or is older
    than their redaction: a search shows them to the user, never to the model.

    Args:
        hits: Best first.
        source: The rag they came from.
        first: The first free number.
        known: The numbers of passages shown before, by ``key``.

    Returns:
        One Evidence per hit, in the same order; a passage that occurs twice only once.
    """
    numbers = dict(known or {})
    given: dict[tuple[str, str, int, int], Evidence] = {}
    for hit in hits:
        evidence = Evidence(
            hit.path,
            hit.start_line,
            hit.end_line,
            redact_secrets(hit.text),
            source=source,
            score=hit.score,
            place=hit.place,
            commit=hit.commit,
            url=hit.url,
            freshness=hit.freshness,
        )
        if evidence.key in given:
            continue
        if evidence.key not in numbers:
            numbers[evidence.key] = first
            first += 1
        given[evidence.key] = replace(evidence, id=numbers[evidence.key])
    return list(given.values())


def fit_evidence(evidence: Sequence[Evidence], characters: int) -> tuple[list[Evidence], int]:
    """Keep the best passages that fit; cut the first at a line's end if even it does not.

    Args:
        evidence: Best first.
        characters: Room for their texts together.

    Returns:
        The passages that fit, with ``end_line`` of a cut one moved to its last kept line, and how
        many were cut or dropped. The first is kept at least in part, whatever the room.
    """
    kept: list[Evidence] = []
    room = characters
    for item in evidence:
        if len(item.text) <= room:
            kept.append(item)
            room -= len(item.text)
            continue
        if not kept:
            kept.append(_cut(item, max(room, 1)))
        break
    whole = sum(
        1 for item, original in zip(kept, evidence, strict=False) if item.text == original.text
    )
    return kept, len(evidence) - whole


def _cut(item: Evidence, characters: int) -> Evidence:
    text = item.text[:characters]
    if "\n" in text:
        text = text[: text.rindex("\n") + 1]
    lines = text.removesuffix("\n").count("\n")
    return replace(item, text=text, end_line=min(item.end_line, item.start_line + lines))


def render_evidence(evidence: Sequence[Evidence]) -> str:
    """Return passages for a prompt, each under its number and inside a fence it cannot close.

    >>> print(render_evidence([Evidence("ducks.md", 1, 1, "It dives.", id=1)]))
    [1] ducks.md:1-1
    ```
    It dives.
    ```
    """
    blocks: list[str] = []
    for item in evidence:
        # A fence longer than any run of backticks inside is closed by nothing in the text.
        longest = max((len(run) for run in re.findall(r"`+", item.text)), default=0)
        fence = "`" * max(3, longest + 1)
        text = item.text if item.text.endswith("\n") else f"{item.text}\n"
        blocks.append(f"[{item.id}] {item}\n{fence}\n{text}{fence}")
    return "\n\n".join(blocks)


def evidence_to_json(item: Evidence) -> dict[str, Any]:
    """Return a passage as the rag tool returns it.

    ``source_path``, ``content``, ``similarity`` and ``chunk_index`` are docker-agent's keys;
    ``id``, ``lines``, ``place`` and ``score`` are additions. ``chunk_index`` is the passage's
    number, because an index inside the file says nothing that ``lines`` does not say better.
    The commit and the link are not among them: see ``origins_of``.
    """
    return {
        "id": item.id,
        "source_path": item.path,
        "lines": f"{item.start_line}-{item.end_line}",
        **({"place": item.place} if item.place else {}),
        "content": item.text,
        "similarity": item.score,
        "score": item.score,
        "chunk_index": item.id,
    }


def origins_of(evidence: Iterable[Evidence]) -> dict[str, list[str]]:
    """Return commit, link and freshness of passages, for what a tool keeps beside its result.

    The model is not shown them: they take a hundred tokens a passage and answer nothing.
    """
    known = {str(item.id): [item.commit, item.url, item.freshness] for item in evidence}
    return {number: origin for number, origin in known.items() if origin != ["", "", "fresh"]}


def evidence_from_json(
    value: object, *, source: str, origins: Mapping[str, Sequence[str]] | None = None
) -> Evidence | None:
    """Read what ``evidence_to_json`` returned; None for anything else.

    Args:
        value: The passage.
        source: The rag it came from.
        origins: What ``origins_of`` returned.
    """
    if not isinstance(value, dict):
        return None
    row = cast("dict[str, Any]", value)
    try:
        start, _, end = str(row["lines"]).partition("-")
        commit, url, *rest = (origins or {}).get(str(row["id"]), ("", ""))
        return Evidence(
            str(row["source_path"]),
            int(start),
            int(end or start),
            str(row["content"]),
            id=int(row["id"]),
            source=source,
            score=None if row["score"] is None else float(row["score"]),
            place=str(row.get("place", "")),
            commit=commit,
            url=url,
            freshness=cast("Freshness", rest[0]) if rest else "fresh",
        )
    except (KeyError, TypeError, ValueError):
        return None
