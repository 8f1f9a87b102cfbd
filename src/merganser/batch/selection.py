"""Decide what a batch asks: what still holds is kept, equal questions are asked once."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import KW_ONLY, asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from merganser.batch.questions import Question

SHARD_QUESTIONS = 8
"""Questions of one shard: a turn takes seconds, so a shard is near ten of them side by side."""

ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which questions to ask now; the others keep the rows that they have.

    Attributes:
        limit: Only the first so many, or None.
        sample: So many at random, or None.
        seed: Of the sample; the same one takes the same questions.
    """

    limit: int | None = None
    sample: int | None = None
    seed: int = 0

    def of(self, questions: Sequence[Question]) -> Sequence[Question]:
        """Give the chosen questions in their order."""
        chosen = list(questions)[: self.limit]
        if self.sample is None or self.sample >= len(chosen):
            return chosen
        places = random.Random(self.seed).sample(range(len(chosen)), self.sample)  # noqa: S311 - reproducible on purpose
        return [chosen[place] for place in sorted(places)]


@dataclass(frozen=True, slots=True)
class BatchShard:
    """Questions that are answered together.

    Attributes:
        number: From 0.
        questions: One for each distinct text; the first that asks it.
    """

    number: int
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What a batch run will do.

    Attributes:
        questions: All, in the table's order.
        kept: Rows of an earlier run that still hold, by key.
        shards: What is left to ask.
        keys: The key of each question, by its id.
        chosen: Ids of the questions that were selected.
    """

    questions: tuple[Question, ...]
    kept: Mapping[str, dict[str, Any]]
    shards: tuple[BatchShard, ...]
    keys: Mapping[str, str]
    _: KW_ONLY
    chosen: frozenset[str]

    @property
    def to_ask(self) -> int:
        """Questions that a model will be asked."""
        return sum(len(shard.questions) for shard in self.shards)


def question_key(question: Question, *, config: str, snapshot: str) -> str:
    """Give the key under which an answer holds.

    Args:
        question: White space at the ends of its text does not count.
        config: The config's fingerprint.
        snapshot: What identifies the searched snapshots.

    Returns:
        32 hex digits.
    """
    parts: list[Any] = [question.question.strip(), config, snapshot]
    if question.where:
        parts.append(asdict(question.where))
    payload = json.dumps(parts, ensure_ascii=False)
    return hashlib.blake2b(payload.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def plan_batch(
    questions: Sequence[Question],
    rows: Iterable[Mapping[str, Any]],
    *,
    config: str,
    snapshot: str,
    selection: Selection | None = None,
    shard_questions: int = SHARD_QUESTIONS,
) -> BatchPlan:
    """Decide what to ask and what to keep.

    Args:
        questions: In the table's order.
        rows: Of earlier runs; a later row of one key stands in for an earlier one.
        config: The config's fingerprint.
        snapshot: What identifies the searched snapshots.
        selection: Which questions to ask now; all when left out.
        shard_questions: Most questions of a shard.

    Returns:
        Answered rows are kept, failed and missing ones asked again, equal questions once.
    """
    keys = {q.id: question_key(q, config=config, snapshot=snapshot) for q in questions}
    wanted = frozenset(keys.values())
    kept: dict[str, dict[str, Any]] = {}
    for row in rows:
        key = row.get("key")
        if isinstance(key, str) and key in wanted and row.get("outcome") == ANSWERED:
            kept[key] = dict(row)
    chosen = (selection or Selection()).of(questions)
    ask: dict[str, Question] = {}
    for question in chosen:
        if keys[question.id] not in kept:
            ask.setdefault(keys[question.id], question)
    left = tuple(ask.values())
    shards = tuple(
        BatchShard(number, left[start : start + shard_questions])
        for number, start in enumerate(range(0, len(left), shard_questions))
    )
    names = frozenset(question.id for question in chosen)
    return BatchPlan(tuple(questions), kept, shards, keys, chosen=names)
