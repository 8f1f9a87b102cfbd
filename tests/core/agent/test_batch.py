import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from merganser.agent.answers import Answer, SourceLine
from merganser.agent.batch import (
    AnswerJournal,
    BatchPlan,
    earlier_rows,
    plan_batch,
    question_key,
    run_batch_shard,
)
from merganser.agent.questions import Question
from merganser.errors import AgentError, PlanError

QUESTIONS = tuple(Question(str(n), f"Question {n}?", n) for n in range(1, 6))


def plan(
    rows: list[dict[str, Any]] | None = None,
    questions: tuple[Question, ...] = QUESTIONS,
    *,
    config: str = "c",
    snapshot: str = "s",
    shard_questions: int = 2,
) -> BatchPlan:
    return plan_batch(
        questions, rows or [], config=config, snapshot=snapshot, shard_questions=shard_questions
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class Answerer:
    """Answers with the question's own words and remembers what it was asked."""

    def __init__(self, *, failing: tuple[str, ...] = ()) -> None:
        self.asked: list[str] = []
        self.failing = failing
        self.running = 0
        self.most = 0

    async def __call__(self, question: Question) -> Answer:
        self.asked.append(question.question)
        self.running += 1
        self.most = max(self.most, self.running)
        # Later questions finish first, so that order has to be made, not had.
        await asyncio.sleep(0.002 * (10 - question.line))
        self.running -= 1
        if question.id in self.failing:
            raise AgentError("stopped")
        return Answer(
            text=f"Answer to {question.question} [1]",
            sources=(SourceLine("a.py", 1, 2, id=1, cited=True),),
            rag_mode="context",
        )


async def run(
    output: Path, batch: BatchPlan, answerer: Answerer, *, concurrency: int = 2
) -> AnswerJournal:
    with AnswerJournal(output, batch) as journal:
        for shard in batch.shards:
            await run_batch_shard(
                shard, answerer, journal, keys=batch.keys, concurrency=concurrency
            )
    return journal


def test_shards_hold_every_question_once_in_order():
    batch = plan()

    assert [[question.id for question in shard.questions] for shard in batch.shards] == [
        ["1", "2"],
        ["3", "4"],
        ["5"],
    ]
    assert batch == plan()


def test_the_key_follows_question_config_and_snapshot():
    key = question_key("Why?", config="c", snapshot="s")

    assert key == question_key(" Why?\n", config="c", snapshot="s")
    assert key != question_key("Why", config="c", snapshot="s")
    assert key != question_key("Why?", config="d", snapshot="s")
    assert key != question_key("Why?", config="c", snapshot="t")


async def test_answers_stand_in_the_order_of_the_questions(tmp_path: Path):
    output = tmp_path / "deep" / "answers.jsonl"

    journal = await run(output, plan(), Answerer())

    assert [row["id"] for row in rows_of(output)] == ["1", "2", "3", "4", "5"]
    assert rows_of(output)[2]["answer"] == "Answer to Question 3? [1]"
    assert (
        journal.report().questions,
        journal.report().answered,
        journal.report().failed,
        journal.report().asked,
    ) == (5, 5, (), 5)
    assert not journal.partial.exists()


async def test_a_failing_question_stops_no_other_and_is_asked_again(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    first = await run(output, plan(), Answerer(failing=("2",)))
    row = rows_of(output)[1]
    answerer = Answerer()

    second = await run(output, plan(earlier_rows(output)), answerer)

    assert (first.report().failed, first.report().answered) == (("2",), 4)
    assert (row["outcome"], row["error"], row["answer"]) == ("error", "stopped", None)
    assert answerer.asked == ["Question 2?"]
    assert (
        second.report().answered,
        second.report().reused,
        second.report().asked,
    ) == (5, 4, 1)


async def test_a_bug_in_one_turn_is_an_error_row(tmp_path: Path):
    async def broken(question: Question) -> Answer:
        raise ZeroDivisionError(question.id)

    batch = plan()
    with AnswerJournal(tmp_path / "answers.jsonl", batch) as journal:
        counts = await run_batch_shard(batch.shards[0], broken, journal, keys=batch.keys)

    assert (counts.answered, counts.failed) == (0, 2)
    assert rows_of(tmp_path / "answers.jsonl")[0]["error"] == "ZeroDivisionError: 1"


async def test_another_config_or_snapshot_asks_everything_again(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    await run(output, plan(), Answerer())
    rows = earlier_rows(output)

    assert plan(rows).to_ask == 0
    assert plan(rows, config="d").to_ask == 5
    assert plan(rows, snapshot="t").to_ask == 5


async def test_equal_questions_are_asked_once_and_answered_each(tmp_path: Path):
    questions = (
        Question("a", "Why?", 1),
        Question("b", "How?", 2),
        Question("c", "Why? ", 3, expected="because"),
    )
    answerer = Answerer()

    journal = await run(tmp_path / "answers.jsonl", plan(questions=questions), answerer)

    rows = rows_of(tmp_path / "answers.jsonl")
    assert sorted(answerer.asked) == ["How?", "Why?"]
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["answer"] == rows[2]["answer"]
    assert (rows[2]["question"], rows[2]["expected"]) == ("Why? ", "because")
    assert (journal.report().answered, journal.report().asked) == (3, 2)


async def test_concurrency_is_used_and_kept(tmp_path: Path):
    answerer = Answerer()
    batch = plan(shard_questions=5)

    await run(tmp_path / "answers.jsonl", batch, answerer, concurrency=3)

    assert answerer.most == 3


async def test_an_interrupted_run_leaves_a_valid_file_that_the_next_run_completes(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    batch = plan()

    async def interrupted() -> AnswerJournal:
        with AnswerJournal(output, batch) as journal:
            await run_batch_shard(batch.shards[0], Answerer(), journal, keys=batch.keys)
            journals.append(journal)
            raise KeyboardInterrupt

    journals: list[AnswerJournal] = []
    with pytest.raises(KeyboardInterrupt):
        await interrupted()

    assert [row["id"] for row in rows_of(output)] == ["1", "2"]
    assert journals[0].report().missing == ("3", "4", "5")
    assert [
        question.id for shard in plan(earlier_rows(output)).shards for question in shard.questions
    ] == ["3", "4", "5"]


async def test_a_killed_run_loses_only_the_line_it_was_writing(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    batch = plan()
    partial = tmp_path / "answers.jsonl.partial"
    whole = {"id": "1", "key": batch.keys["1"], "outcome": "answered", "answer": "kept"}
    partial.write_text(json.dumps(whole) + "\n" + '{"id": "2", "key": "' + batch.keys["2"])
    resumed = plan(earlier_rows(output))

    await run(output, resumed, Answerer())

    rows = rows_of(output)
    assert resumed.to_ask == 4
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0]["answer"] == "kept"


async def test_rows_are_on_disk_as_soon_as_they_are_answered(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    batch = plan()

    with AnswerJournal(output, batch) as journal:
        await run_batch_shard(batch.shards[0], Answerer(), journal, keys=batch.keys)

        assert {"1", "2"} == {row["id"] for row in rows_of(journal.partial)}
        assert not output.exists()


def test_two_runs_on_one_output_exclude_each_other(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    with (
        AnswerJournal(output, plan()),
        pytest.raises(PlanError, match="another run is writing"),
        AnswerJournal(output, plan()),
    ):
        raise AssertionError
