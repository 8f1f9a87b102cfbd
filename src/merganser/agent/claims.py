"""Check an answer claim by claim against the passages that it rests on.

A claim is a sentence, a list item or a block of code of an answer. It holds when one place of a
passage, at most three sentences, has what the claim says: its numbers with their units, its dates,
names and identifiers to the letter, most of its other words in the same order, and as many
negations; and when the question's own words stand in or beside that place. A question for a person,
a time or a number wants a name, a date or a number in what holds. All this is about wording: a
true statement in words of its own is not found, and what a passage says wrongly is not noticed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from merganser.agent.wording import (
    Word,
    has_negation,
    identifiers_of,
    segments_of,
    words_of_claim,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.agent.evidence import Evidence
    from merganser.agent.wording import Segment

LEAST_COVERAGE = 0.75
"""Share of a claim's words that one place of a passage has to hold."""

LEAST_ORDER = 0.5
"""Share of the words found that stand in the claim's order."""

LEAST_QUESTION = 0.7
"""Share of the question's words, by weight, that stand in or beside the place."""

LEAST_BEARING = 0.5
"""Share of the question's words, by weight, in a passage that is worth reading for it."""

FEWEST_DISTINCT = 0.25
"""Share of distinct words below which a text runs in a loop."""

_SPAN_SEGMENTS = 3
_BESIDE = 2
_LOOP_WORDS = 16
_ECHOES = ("question:", "sources:\n", "read this part of", "answer the question from the text")
_ABSTAINS = re.compile(
    r"\b(?:(?:do|does|did) not|don't|doesn't|cannot|can't|not|no)\b[^.\n]{0,40}"
    r"\b(?:say|hold|know|contain|mention|find|found|provide[ds]?|specif\w+|information|"
    r"enough context|answer)\b",
    re.IGNORECASE,
)
_ABSTAINER = re.compile(
    r"\b(?:i|sources?|documents?|passages?|texts?|context|results?|information)\b", re.IGNORECASE
)
_MARKS = re.compile(
    r"\[\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*\]|`?[\w./-]+\.\w+:L?\d+(?:-L?\d+)?`?"
    r"|\([^()\n]*\b(?:pages?|slides?|rows?|cells?|lines?)\s+\d+[^()\n]*\)"
)
_WANTS = (
    ("name", re.compile(r"^\s*(?:who|whose|whom)\b|\bby whom\b", re.IGNORECASE)),
    ("date", re.compile(r"^\s*when\b|\b(?:what|which) (?:year|date|day|month)\b", re.IGNORECASE)),
    (
        "number",
        re.compile(
            r"\bhow (?:many|much|long|large|big|old|often|fast|far|tall|heavy)\b"
            r"|\bwh(?:at|ich) (?:percentage|number|port|size)\b",
            re.IGNORECASE,
        ),
    ),
)
_AFTER_CITATION = re.compile(r"(?<=\d\])\s*(?:[,;]\s*(?:and\s+|but\s+)?|and\s+|but\s+)(?=\w)")
_FENCE = re.compile(r"(`{3,}|~{3,})[^\n]*\n(.*?)(?:\1|\Z)", re.DOTALL)
_ONLY_LIST = re.compile(r"^[\s\-*•>#\d.)(`:]*$")


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement of an answer.

    Attributes:
        text: As written, citations included.
        reason: Why no passage holds it; "" when one does.
        source: Place of the passage that holds it among those shown; None when none does.
    """

    text: str
    reason: str = ""
    source: int | None = None

    @property
    def holds(self) -> bool:
        """Whether a passage holds it."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as claims and passages are held against it.

    Attributes:
        text: As asked.
        weights: Its words and what each counts, from 0.3 for a word in every passage to 1.
        names: Words and identifiers of it that must be there: names and numbers.
        wants: ``name``, ``date`` or ``number``, when it asks for one; else "".
    """

    text: str
    weights: dict[str, float]
    names: frozenset[str]
    wants: str

    @classmethod
    def of(cls, question: str, passages: Sequence[Evidence]) -> Asked:
        """Weigh a question's words by how many of the passages that were found have them."""
        words = words_of_claim(question)
        held = [_bases(f"{item.path} {item.text}") for item in passages]
        weights = {
            word.base: 1.0 - 0.7 * sum(word.base in one for one in held) / max(len(held), 1)
            for word in words
        }
        names = frozenset(word.base for word in words if word.kind != "word")
        return cls(question, weights, names, _wanted(question))

    def share_in(self, bases: frozenset[str]) -> float:
        """Return the share of the question's words, by weight, that are among others, 0 to 1."""
        total = sum(self.weights.values())
        found = sum(weight for base, weight in self.weights.items() if base in bases)
        return found / total if total else 1.0

    def bears_on(self, passage: Evidence) -> bool:
        """Tell whether a passage is about what is asked: most words, and every name."""
        bases = _bases(f"{passage.path} {passage.text}")
        return self.names <= bases and self.share_in(bases) >= LEAST_BEARING


def check_claims(text: str, asked: Asked, passages: Sequence[Evidence]) -> tuple[Claim, ...]:
    """Check each claim of an answer.

    Args:
        text: The answer.
        asked: What it answers.
        passages: What the model was shown.

    Returns:
        The claims in order; none when the text makes no statement.

    >>> from merganser.agent.evidence import Evidence
    >>> shown = [Evidence("a.md", 1, 1, "A merganser dives for 30 seconds.", id=1)]
    >>> asked = Asked.of("How long does a merganser dive?", shown)
    >>> [c.reason for c in check_claims("It dives for 30 seconds [1]. It sings.", asked, shown)]
    ['', 'no passage says it']
    """
    return tuple(_checked(claim, asked, passages) for claim in split_claims(text))


def split_claims(text: str) -> list[str]:
    r"""Part an answer into what it states: sentences, list items, and blocks of code whole.

    >>> split_claims("It dives [1]. It eats fish.\n\n- small ones\n\nDo you see?")
    ['It dives [1].', 'It eats fish.', '- small ones']
    """
    claims: list[str] = []
    end = 0
    for block in _FENCE.finditer(text):
        claims += _sentences(text[end : block.start()])
        if block[2].strip():
            claims.append(block[2].strip())
        end = block.end()
    claims += _sentences(text[end:])
    return claims


def _sentences(text: str) -> list[str]:
    found: list[str] = []
    for segment in segments_of(text):
        bare = _MARKS.sub(" ", segment.text).strip()
        if found and (not bare or _ONLY_LIST.match(bare)):
            if _MARKS.search(segment.text):  # "... fish. [1]"
                found[-1] = f"{found[-1]} {segment.text}"
        elif (
            not bare.endswith(("?", "？", ":"))
            and not bare.startswith("#")
            and words_of_claim(bare)
        ):
            # What has a citation of its own in the midst of a sentence is a claim of its own.
            found += _AFTER_CITATION.split(segment.text)
    return found


def refuse(text: str, *, finish_reason: str | None = None) -> str:
    """Return why a text is no answer at all: empty, cut, an echo of the prompt, a loop; or "".

    >>> refuse("Question: What eats fish?"), refuse("It eats fish."), refuse("a b c d " * 9)
    ('it repeats the prompt', '', 'it runs in a loop')
    """
    small = text.casefold()
    words = re.findall(r"\w+", small)
    if not words:
        return "it has no text"
    if finish_reason == "length":
        return "it was cut"
    if any(echo in small for echo in _ECHOES):
        return "it repeats the prompt"
    if len(words) >= _LOOP_WORDS and len(set(words)) < FEWEST_DISTINCT * len(words):
        return "it runs in a loop"
    return ""


def abstains(text: str) -> bool:
    """Tell whether an answer says that the documents do not hold one.

    >>> abstains("The sources do not say that."), abstains("It does not contain sugar.")
    (True, False)
    """
    sentences = [one.text for one in segments_of(_MARKS.sub(" ", text))]
    return bool(sentences) and all(
        _ABSTAINS.search(one) and _ABSTAINER.search(one) for one in sentences
    )


def _checked(claim: str, asked: Asked, passages: Sequence[Evidence]) -> Claim:
    bare = _MARKS.sub(" ", claim)
    cited = {
        int(n)
        for marks in re.findall(r"\[([\d,;\s–-]+)\]", claim)
        for n in re.findall(r"\d+", marks)
    }
    rests_on = [n for n, item in enumerate(passages) if not cited or item.id in cited]
    words = words_of_claim(bare)
    own = [word for word in words if word.base not in asked.weights]
    reason = "no passage says it"
    for place in rests_on:
        why = _held_by(bare, words, own, asked, passages[place])
        if not why:
            return Claim(claim, source=place)
        reason = why if why != "no passage says it" else reason
    return Claim(claim, reason)


def _held_by(
    claim: str, words: Sequence[Word], own: Sequence[Word], asked: Asked, passage: Evidence
) -> str:
    """Return why a passage does not hold a claim; "" when it does."""
    if not own and not _asks_yes_or_no(asked.text):
        return "it says nothing beyond the question"
    segments = segments_of(passage.text)
    known = [words_of_claim(segment.text) for segment in segments]
    best: tuple[float, int, int] = (0.0, 0, 0)
    for first in range(len(segments)):
        for last in range(first + 1, min(first + _SPAN_SEGMENTS, len(segments)) + 1):
            bases = {word.base for part in known[first:last] for word in part}
            # Of equal places the shortest counts, with the least that could excuse a mistake.
            share = _share(words, bases) + 0.001 * (first - last)
            if share > best[0]:
                best = (share, first, last)
    _, first, last = best
    span = [word for part in known[first:last] for word in part]
    bases = {word.base for word in span}
    if _share(words, bases) < LEAST_COVERAGE or (own and _share(own, bases) < LEAST_COVERAGE):
        return "no passage says it"
    text = passage.text[segments[first].start : segments[last - 1].end]
    if missing := _missing(claim, words, span, text):
        return f"no passage has {missing} beside it"
    if not _in_order(words, span):
        return "the passage says it in another order"
    if _negation_differs(claim, words, segments[first:last]):
        return "the passage says the contrary"
    near = passage.text[
        segments[max(first - _BESIDE, 0)].start : segments[
            min(last + _BESIDE, len(segments)) - 1
        ].end
    ]
    around = _bases(f"{passage.path} {_heading(passage.text)} {near}")
    if not asked.names <= around or asked.share_in(around) < LEAST_QUESTION:
        return "the passage does not answer the question"
    return ""


def answers_type(asked: Asked, claims: Sequence[Claim]) -> bool:
    """Tell whether what holds has the name, date or number that the question asks for."""
    if not asked.wants:
        return True
    for claim in claims:
        if not claim.holds:
            continue
        bare = _MARKS.sub(" ", claim.text)
        own = [w for w in words_of_claim(bare) if w.base not in asked.weights]
        numbers = any(word.kind == "number" for word in own)
        if asked.wants == "number" and numbers:
            return True
        if asked.wants == "date" and (
            numbers
            or re.search(
                r"\b(?:before|after|when|once|every|until|during|daily|weekly|on|if)\b",
                bare,
                re.IGNORECASE,
            )
        ):
            return True
        if asked.wants == "name" and re.search(
            r"\b[A-Z]\w+|@\w+", bare.split(" ", 1)[-1] if own and own[0].kind == "word" else bare
        ):
            return True
    return False


def _share(words: Sequence[Word], bases: set[str]) -> float:
    return sum(word.base in bases for word in words) / len(words) if words else 0.0


def _missing(claim: str, words: Sequence[Word], span: Sequence[Word], text: str) -> str:
    """Return the first number, date, name or contrary that stands in a claim alone; "" for none."""
    units: dict[str, set[str]] = {}
    for word in span:
        units.setdefault(word.base, set()).add(word.unit)
    for word in words:
        if word.is_hard and word.base not in units:
            return word.base
        if word.unit and word.unit not in units[word.base]:
            return f"{word.base} {word.unit}"
    small = text.casefold()
    for name in sorted(identifiers_of(claim)):
        if not re.search(rf"(?<![\w]){re.escape(name)}(?!\w)", small):
            return name
    return ""


def _in_order(words: Sequence[Word], span: Sequence[Word]) -> bool:
    there = [word.base for word in span]
    claimed = [word.base for word in words if word.base in set(there)]
    names = {word.base for word in (*words, *span) if word.kind == "name"}
    named = [base for base in claimed if base in names]
    if _longest_common(named, there) < len(named):  # who did it to whom
        return False
    if len(claimed) < 3:
        return len(claimed) < 2 or _longest_common(claimed, there) == len(claimed)
    return _longest_common(claimed, there) >= LEAST_ORDER * len(claimed)


def _longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    row = [0] * (len(other) + 1)
    for left in one:
        diagonal = 0
        for place, right in enumerate(other, 1):
            above = row[place]
            row[place] = diagonal + 1 if left == right else max(above, row[place - 1])
            diagonal = above
    return row[-1]


def _negation_differs(claim: str, words: Sequence[Word], segments: Sequence[Segment]) -> bool:
    """Tell whether a claim denies what its span says, or says what its span denies."""
    said = {word.base for word in words}
    clauses = [
        clause
        for segment in segments
        for clause in re.split(
            r"[;:—]|,\s+|\b(?:but|however|although|while|whereas)\b", segment.text
        )
    ]
    shares = [(len(said & _bases(clause)), clause) for clause in clauses]
    most = max((count for count, _ in shares), default=0)
    nearest = [clause for count, clause in shares if count and count >= 0.6 * most]
    return has_negation(claim) != any(map(has_negation, nearest))


def _heading(text: str) -> str:
    return " ".join(re.findall(r"^#{1,6}\s.*$", text, re.MULTILINE)[:2])


def _bases(text: str) -> frozenset[str]:
    return frozenset(word.base for word in words_of_claim(text.replace("/", " ")))


def _asks_yes_or_no(question: str) -> bool:
    return bool(
        re.match(
            r"\s*(?:is|are|was|were|do|does|did|can|could|will|would|has|have|should|may)\b",
            question,
            re.IGNORECASE,
        )
    )


def _wanted(question: str) -> str:
    return next((kind for kind, form in _WANTS if form.search(question)), "")
