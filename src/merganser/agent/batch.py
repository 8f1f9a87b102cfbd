"""Answer many questions: each once, in shards, with a row on disk as soon as it is answered.

The rows are the resume record. While a run goes on they are appended to ``<output>.partial`` in the
order in which they are finished; at the end, and when the run is interrupted, ``<output>`` is
written whole in the questions' order and takes its place in one step. A row carries the key of
what it answers (question, config, snapshot): a later run keeps what still holds, nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from merganser.agent.questions import Question, read_rows
from merganser.errors import MerganserError, PlanError
from merganser.progress import report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from merganser.agent.answers import Answer

SHARD_QUESTIONS = 8
"""Questions of one shard: a turn takes seconds, so a shard is near ten of them side by side."""

ANSWERED = "answered"
ERROR = "error"


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
        questions: All, in the file's order.
        kept: Rows of an earlier run that still hold, by key.
        shards: What is left to ask.
        keys: The key of each question, by its id.
    """

    questions: tuple[Question, ...]
    kept: Mapping[str, dict[str, Any]]
    shards: tuple[BatchShard, ...]
    keys: Mapping[str, str]

    @property
    def to_ask(self) -> int:
        """Questions that a model will be asked."""
        return sum(len(shard.questions) for shard in self.shards)


@dataclass(frozen=True, slots=True)
class ShardReport:
    """How the questions of one shard went.

    Attributes:
        number: The shard.
        answered: Rows with the outcome ``answered``.
        failed: Rows with any other outcome.
        seconds: Sum of the turns' wall times.
    """

    number: int
    answered: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BatchReport:
    """How a batch went.

    Attributes:
        questions: In all.
        answered: Rows with the outcome ``answered``.
        failed: Ids of the questions with any other outcome, in the file's order.
        missing: Ids of the questions that have no row, after an interruption.
        reused: Questions whose row comes from an earlier run.
        asked: Questions that a model was asked in this run.
    """

    questions: int
    answered: int
    _: KW_ONLY
    failed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    reused: int = 0
    asked: int = 0


def question_key(question: str, *, config: str, snapshot: str) -> str:
    """Give the key under which an answer holds.

    Args:
        question: Its text; white space at the ends does not count.
        config: The config's fingerprint.
        snapshot: What identifies the searched snapshots.

    Returns:
        32 hex digits.
    """
    payload = json.dumps([question.strip(), config, snapshot], ensure_ascii=False)
    return hashlib.blake2b(payload.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def plan_batch(
    questions: Sequence[Question],
    rows: Iterable[Mapping[str, Any]],
    *,
    config: str,
    snapshot: str,
    shard_questions: int = SHARD_QUESTIONS,
) -> BatchPlan:
    """Decide what to ask and what to keep.

    Args:
        questions: In the file's order.
        rows: Of earlier runs; a later row of one key stands in for an earlier one.
        config: The config's fingerprint.
        snapshot: What identifies the searched snapshots.
        shard_questions: Most questions of a shard.

    Returns:
        Answered rows are kept, failed and missing ones asked again, equal questions once.
    """
    keys = {q.id: question_key(q.question, config=config, snapshot=snapshot) for q in questions}
    wanted = frozenset(keys.values())
    kept: dict[str, dict[str, Any]] = {}
    for row in rows:
        key = row.get("key")
        if isinstance(key, str) and key in wanted and row.get("outcome") == ANSWERED:
            kept[key] = dict(row)
    ask: dict[str, Question] = {}
    for question in questions:
        if keys[question.id] not in kept:
            ask.setdefault(keys[question.id], question)
    left = tuple(ask.values())
    shards = tuple(
        BatchShard(number, left[start : start + shard_questions])
        for number, start in enumerate(range(0, len(left), shard_questions))
    )
    return BatchPlan(tuple(questions), kept, shards, keys)


class AnswerJournal:
    """The answers file of one run: one flushed line a question, then the whole file in order.

    A context manager that holds the output's lock. Leaving it, also by an interruption, writes the
    answers known so far in the questions' order and removes the partial file.

    Attributes:
        output: The answers file.
        partial: Beside it, where rows go as they come.
    """

    def __init__(self, output: Path, plan: BatchPlan) -> None:
        self.output = output
        self.partial = output.with_name(f"{output.name}.partial")
        self._plan = plan
        self._rows: dict[str, dict[str, Any]] = dict(plan.kept)
        self._lock = FileLock(f"{output}.lock")
        self._file: int | None = None

    def __enter__(self) -> Self:
        self.output.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise PlanError(f"another run is writing {self.output}; wait for it to end") from error
        _end_last_line(self.partial)
        self._file = os.open(self.partial, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._file is not None
        try:
            self._write_whole()
        finally:
            os.close(self._file)
            self._file = None
            self._lock.release()

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row and flush it to disk."""
        assert self._file is not None, "the journal is not open"
        line = f"{_dump(row)}\n".encode()
        # One write to a file opened for appending: rows of several threads never mix.
        os.write(self._file, line)
        os.fsync(self._file)
        self._rows[str(row["key"])] = dict(row)

    def report(self) -> BatchReport:
        """Count what the answers file will hold."""
        outcomes = {
            question.id: self._rows.get(self._plan.keys[question.id], {}).get("outcome")
            for question in self._plan.questions
        }
        kept = self._plan.kept
        return BatchReport(
            len(outcomes),
            sum(outcome == ANSWERED for outcome in outcomes.values()),
            failed=tuple(i for i, outcome in outcomes.items() if outcome not in {None, ANSWERED}),
            missing=tuple(i for i, outcome in outcomes.items() if outcome is None),
            reused=sum(self._plan.keys[question_id] in kept for question_id in outcomes),
            asked=len(self._rows.keys() - kept.keys()),
        )

    def _write_whole(self) -> None:
        lines: list[str] = []
        for question in self._plan.questions:
            row = self._rows.get(self._plan.keys[question.id])
            if row is not None:
                lines.append(_dump({**row, **_asked(question)}))
        temporary = self.output.with_name(f"{self.output.name}.{os.getpid()}.tmp")
        with temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.output)
        self.partial.unlink(missing_ok=True)


def earlier_rows(output: Path) -> list[dict[str, Any]]:
    """Read the rows of the last whole answers file and of a run that was killed after it."""
    partial = output.with_name(f"{output.name}.partial")
    return [*read_rows(output), *read_rows(partial)]


async def run_batch_shard(
    shard: BatchShard,
    answer: Callable[[Question], Awaitable[Answer]],
    journal: AnswerJournal,
    *,
    keys: Mapping[str, str],
    concurrency: int = 1,
) -> ShardReport:
    """Answer the questions of one shard; a question that fails never stops the others.

    Args:
        shard: What to ask.
        answer: Takes one turn.
        journal: Where rows go, open.
        keys: The key of each question, by its id.
        concurrency: Questions asked at once, at least 1.

    Returns:
        The counts; the rows are in the journal.

    Raises:
        asyncio.CancelledError: The run was interrupted; rows written so far stay.
    """
    turns = asyncio.Semaphore(max(concurrency, 1))

    async def one(question: Question) -> dict[str, Any]:
        async with turns:
            row = {**_asked(question), **await _row(question, answer), "key": keys[question.id]}
        journal.add(row)
        report("answer questions", 1, unit="questions", advance=True)
        return row

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(question)) for question in shard.questions]
    rows = [task.result() for task in tasks]
    answered = sum(row["outcome"] == ANSWERED for row in rows)
    return ShardReport(
        shard.number, answered, len(rows) - answered, sum(row["seconds"] for row in rows)
    )


async def _row(
    question: Question, answer: Callable[[Question], Awaitable[Answer]]
) -> dict[str, Any]:
    started = asyncio.get_running_loop().time()
    try:
        return {**(await answer(question)).to_json(), "error": None}
    except MerganserError as error:
        message = str(error)
    except Exception as error:  # noqa: BLE001 - a question that breaks must not stop the others
        message = f"{type(error).__name__}: {error}"
    seconds = round(asyncio.get_running_loop().time() - started, 3)
    return {"answer": None, "sources": [], "outcome": ERROR, "error": message, "seconds": seconds}


def _asked(question: Question) -> dict[str, Any]:
    asked: dict[str, Any] = {"id": question.id, "question": question.question}
    return asked if question.expected is None else {**asked, "expected": question.expected}


def _dump(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _end_last_line(path: Path) -> None:
    """Put an end to a line that a killed run left open, so that the next row starts its own."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
