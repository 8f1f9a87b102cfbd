"""Answer the questions of a shard side by side; one that fails never stops the others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from merganser.batch.journal import asked
from merganser.batch.selection import ANSWERED
from merganser.errors import MerganserError
from merganser.progress import report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from merganser.batch.journal import AnswerJournal
    from merganser.batch.questions import Question
    from merganser.batch.selection import BatchShard

    AskQuestion: TypeAlias = Callable[[Question], Awaitable[dict[str, Any]]]

ERROR = "error"


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


async def run_batch_shard(
    shard: BatchShard,
    answer: AskQuestion,
    journal: AnswerJournal,
    *,
    keys: Mapping[str, str],
    places: asyncio.Semaphore,
) -> ShardReport:
    """Answer the questions of one shard.

    Args:
        shard: What to ask.
        answer: Takes one turn; gives the answer's part of the row.
        journal: Where rows go, open.
        keys: The key of each question, by its id.
        places: One for each question that may be asked at once; shared by the shards.

    Returns:
        The counts; the rows are in the journal.

    Raises:
        asyncio.CancelledError: The run was interrupted; rows written so far stay.
    """

    async def one(question: Question) -> dict[str, Any]:
        async with places:
            row = {**asked(question), **await _row(question, answer), "key": keys[question.id]}
        journal.add(row)
        report("answer questions", 1, journal.to_ask, unit="questions", advance=True)
        return row

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(question)) for question in shard.questions]
    rows = [task.result() for task in tasks]
    answered = sum(row["outcome"] == ANSWERED for row in rows)
    return ShardReport(
        shard.number, answered, len(rows) - answered, sum(row["seconds"] for row in rows)
    )


async def _row(question: Question, answer: AskQuestion) -> dict[str, Any]:
    started = asyncio.get_running_loop().time()
    try:
        return {**await answer(question), "error": None}
    except MerganserError as error:
        message = str(error)
    except Exception as error:  # noqa: BLE001 - a question that breaks must not stop the others
        message = f"{type(error).__name__}: {error}"
    seconds = round(asyncio.get_running_loop().time() - started, 3)
    return {"answer": None, "sources": [], "outcome": ERROR, "error": message, "seconds": seconds}
