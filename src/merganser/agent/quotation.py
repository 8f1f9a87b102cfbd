"""Quote what the documents say where no answer of a model holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from merganser.agent.wording import segments_of, words_of_claim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.agent.claims import Asked
    from merganser.agent.evidence import Evidence
    from merganser.agent.wording import Segment

MOST_CHARACTERS = 600
"""Of one quotation, unless a single sentence is longer."""

_MOST_PASSAGES = 2
_LOOKED_AT = 5


@dataclass(frozen=True, slots=True)
class Quotation:
    """Sentences of a passage, to the letter.

    Attributes:
        passage: Where they stand.
        text: As there.
        start_line: The first line of them.
        end_line: The last.
    """

    passage: Evidence
    text: str
    start_line: int
    end_line: int

    def __str__(self) -> str:
        """Return it as a block of Markdown with its citation."""
        lines = "\n".join(f"> {line}".rstrip() for line in self.text.splitlines())
        item = self.passage
        mark = f" [{item.id}]" if item.id is not None else ""
        place = str(item) if item.place else f"{item.path}:{self.start_line}-{self.end_line}"
        return f"{lines}\n\n{place}{mark}"


def quote_passages(asked: Asked, passages: Sequence[Evidence]) -> list[Quotation]:
    """Choose the sentences that bear most on a question.

    Args:
        asked: The question.
        passages: Best first.

    Returns:
        At most two quotations, best first; none when no passage bears on the question.
    """
    bearing = [item for item in passages[:_LOOKED_AT] if asked.bears_on(item)]
    return [_best_of(asked, item) for item in bearing[:_MOST_PASSAGES]]


def show_quotations(quotations: Sequence[Quotation]) -> str:
    """Return the text of an answer that quotes."""
    return "\n\n".join(["The documents say:", *map(str, quotations)])


def _best_of(asked: Asked, passage: Evidence) -> Quotation:
    segments = segments_of(passage.text)
    scores = [_score(asked, segment) for segment in segments]
    # A sentence beside good ones is better than one alone; the first of equals stays.
    around = [
        score
        + 0.5 * sum(scores[max(place - 1, 0) : place])
        + 0.5 * sum(scores[place + 1 : place + 2])
        for place, score in enumerate(scores)
    ]
    first = last = max(range(len(segments)), key=lambda place: around[place])
    while True:
        sides = [
            (around[place], place)
            for place in (last + 1, first - 1)
            if 0 <= place < len(segments)
            and around[place] > 0
            and segments[max(last, place)].end - segments[min(first, place)].start
            <= MOST_CHARACTERS
        ]
        if not sides:
            break
        _, place = max(sides, key=lambda side: side[0])
        first, last = min(first, place), max(last, place)
    start, end = segments[first].start, segments[last].end
    line = passage.start_line + passage.text.count("\n", 0, start)
    final = min(line + passage.text.count("\n", start, end), passage.end_line)
    return Quotation(passage, passage.text[start:end], min(line, final), final)


def _score(asked: Asked, segment: Segment) -> float:
    words = words_of_claim(segment.text)
    share = asked.share_in(frozenset(word.base for word in words))
    if asked.wants in {"number", "date"}:
        share += 0.3 * any(word.kind == "number" for word in words)
    if asked.wants == "name":
        share += 0.3 * any(word.kind == "name" for word in words)
    return share - 0.2 * segment.text.startswith("#")
