"""Decide what a batch asks, and what that would cost: what still holds is kept, equals are one."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import KW_ONLY, asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from merganser.agent.agent_definition import describe_agent
from merganser.batch.answer_rows import ANSWERED, seconds_of, tokens_of
from merganser.batch.journal import earlier_rows
from merganser.batch.questions import read_questions
from merganser.config.flow_definition import batch_concurrency
from merganser.config.rag_definition import resolve_rag
from merganser.store.filters import Filter
from merganser.store.reader import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from merganser.batch.questions import Question
    from merganser.config.flow_definition import BatchFlow
    from merganser.config.load import Config

SHARD_QUESTIONS = 8
"""Questions of one shard: a turn takes seconds, so a shard is near ten of them side by side."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which questions to ask now; the others keep the rows that they have.

    Attributes:
        limit: Only the first so many; all when None.
        sample: Only so many, taken at random; all when None.
        seed: The same seed takes the same sample.
        kinds: The only kinds of documents that are searched for them, unless a question's own
            filters name some.
    """

    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    kinds: tuple[str, ...] = ()

    def of(self, questions: Sequence[Question]) -> Sequence[Question]:
        """Return the chosen questions in their order, bounded to the kinds."""
        chosen = [self._bound(question) for question in questions[: self.limit]]
        if self.sample is None or self.sample >= len(chosen):
            return chosen
        places = random.Random(self.seed).sample(range(len(chosen)), self.sample)  # noqa: S311 - reproducible on purpose
        return [chosen[place] for place in sorted(places)]

    def _bound(self, question: Question) -> Question:
        where = question.where or Filter()
        if not self.kinds or where.kinds:
            return question
        return replace(question, where=replace(where, kinds=self.kinds))


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
    """Return the key under which an answer holds.

    Args:
        question: White space at the ends of its text does not count.
        config: The config's fingerprint.
        snapshot: What identifies the searched snapshots, see ``snapshots_of``.

    Returns:
        32 hex digits.
    """
    parts: list[Any] = [question.question.strip(), config, snapshot]
    if question.where:
        parts.append(asdict(question.where))
    payload = json.dumps(parts, ensure_ascii=False)
    return hashlib.blake2b(payload.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def snapshots_of(config: Config, rags: Iterable[str]) -> str:
    """Identify the served snapshots of rags: equal as long as no index is published anew.

    Raises:
        NoSnapshotError: A rag has not been indexed yet.
    """
    parts: list[str] = []
    for rag in rags:
        for index in resolve_rag(config, rag).indexes:
            with open_snapshot(index.folder) as snapshot:
                parts.append(f"{rag}:{index.name}:{sorted(snapshot.meta.items())!r}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def plan_batch(config: Config, flow: BatchFlow, selection: Selection) -> BatchPlan:
    """Read a batch flow's questions and earlier answers, and decide what to ask.

    Raises:
        SpecErrors: The questions cannot be read.
        PlanError: Something else stands where the answers should go.
        NoSnapshotError: A rag of the agent has not been indexed yet.
    """
    rags = describe_agent(config, flow.agent).rags
    return select_questions(
        read_questions(flow.input),
        earlier_rows(flow.output, overwrite=flow.overwrite),
        config=config.fingerprint,
        snapshot=snapshots_of(config, (rag.name for rag in rags)),
        selection=selection,
    )


def select_questions(
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
        rows: Rows of earlier runs; a later row of one key stands in for an earlier one.
        config: The config's fingerprint.
        snapshot: What identifies the searched snapshots.
        selection: Which questions to ask now; all when left out.
        shard_questions: Most questions of a shard.

    Returns:
        Answered rows are kept, failed and missing ones asked again, equal questions once.
    """
    chosen = (selection or Selection()).of(questions)
    bound = {question.id: question for question in chosen}
    questions = [bound.get(question.id, question) for question in questions]
    keys = {q.id: question_key(q, config=config, snapshot=snapshot) for q in questions}
    wanted = frozenset(keys.values())
    kept: dict[str, dict[str, Any]] = {}
    for row in rows:
        key = row.get("key")
        if isinstance(key, str) and key in wanted and row.get("outcome") == ANSWERED:
            kept[key] = dict(row)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchForecast:
    """What a batch run would do.

    Attributes:
        questions: Rows of the questions table.
        chosen: Questions that are selected for this run.
        kept: Chosen ones that an earlier run answered.
        to_ask: Turns: equal questions are asked once.
        model: The agent's model.
        concurrency: Turns at a time.
        input_tokens: Estimate for all turns; None when there is no earlier answer to go by.
        output_tokens: Estimate for all turns, or None.
        seconds: Estimated wall time, or None.
        output: Where the answers would go.
    """

    questions: int
    chosen: int
    kept: int
    to_ask: int
    model: str
    concurrency: int
    input_tokens: int | None
    output_tokens: int | None
    seconds: float | None
    output: str

    def lines(self) -> Iterator[str]:
        """Describe it for a terminal."""
        yield f"{self.questions} questions, {self.chosen} chosen, {self.kept} answered already"
        yield f"{self.to_ask} to ask {self.model}, {self.concurrency} at a time"
        if self.seconds is None:
            yield "cost: unknown until a first answer tells; try --limit 5"
        elif self.to_ask:
            yield (
                f"cost: about {self.input_tokens:,} tokens in, {self.output_tokens:,} out, "
                f"{self.seconds:,.0f} s, going by earlier answers"
            )
        yield f"answers: {self.output}"


def forecast_batch(config: Config, flow: BatchFlow, selection: Selection) -> BatchForecast:
    """Find out what a batch run would do; no model is asked and nothing is written.

    Raises:
        SpecErrors: The questions cannot be read.
        PlanError: Something else stands where the answers should go.
        NoSnapshotError: A rag of the agent has not been indexed yet.
    """
    plan = plan_batch(config, flow, selection)
    answered = [
        row
        for row in earlier_rows(flow.output, overwrite=flow.overwrite)
        if row.get("outcome") == ANSWERED
    ]
    concurrency = batch_concurrency(config, flow)

    def total(values: list[float]) -> float | None:
        return fmean(values) * plan.to_ask if values else None

    tokens_in = total([tokens_of(row)[0] for row in answered])
    tokens_out = total([tokens_of(row)[1] for row in answered])
    seconds = total([seconds_of(row) for row in answered])
    return BatchForecast(
        questions=len(plan.questions),
        chosen=len(plan.chosen),
        kept=sum(plan.keys[name] in plan.kept for name in plan.chosen),
        to_ask=plan.to_ask,
        model=describe_agent(config, flow.agent).model.model,
        concurrency=concurrency,
        input_tokens=None if tokens_in is None else round(tokens_in),
        output_tokens=None if tokens_out is None else round(tokens_out),
        # A row's seconds hold its waiting for a slot, which all concurrent turns share.
        seconds=None if seconds is None else seconds / concurrency,
        output=str(flow.output),
    )
