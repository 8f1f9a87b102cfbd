import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from merganser.agent.answer import Answer, SourceLine, TurnUsage
from merganser.agent.events import EventSink, Restarted
from merganser.batch.journal import AnswerJournal, earlier_rows
from merganser.batch.questions import Question
from merganser.batch.selection import BatchPlan, Selection, question_key, select_questions
from merganser.batch.session import answer_questions
from merganser.batch.tables import read_rows, write_rows
from merganser.config.flow_definition import DataTable
from merganser.errors import (
    AgentError,
    PlanError,
    RunnerUnreachableError,
    ServerAwayError,
    StoreError,
)
from merganser.store.filters import Filter

QUESTIONS = tuple(Question(str(n), f"Question {n}?", n) for n in range(1, 6))


def plan(
    rows: list[dict[str, Any]] | None = None,
    questions: tuple[Question, ...] = QUESTIONS,
    *,
    config: str = "c",
    snapshot: str = "s",
    shard_questions: int = 2,
    selection: Selection | None = None,
) -> BatchPlan:
    return select_questions(
        questions,
        rows or [],
        config=config,
        snapshot=snapshot,
        selection=selection,
        shard_questions=shard_questions,
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

    async def __call__(self, question: Question, _on_event: EventSink) -> dict[str, Any]:
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
            usage=TurnUsage(1, 10, 5),
            rag_mode="context",
        ).to_json()


async def run(
    output: Path,
    batch: BatchPlan,
    answerer: Callable[[Question, EventSink], Awaitable[dict[str, Any]]],
    *,
    concurrency: int = 2,
) -> AnswerJournal:
    limit = asyncio.Semaphore(concurrency)
    with AnswerJournal(DataTable(output), batch) as journal:
        async with asyncio.TaskGroup() as group:
            for shard in batch.shards:
                answering = answer_questions(
                    shard, answerer, journal, keys=batch.keys, concurrency=limit
                )
                group.create_task(answering)
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
    why = Question("1", "Why?", 1)
    key = question_key(why, config="c", snapshot="s")

    assert key == question_key(Question("2", " Why?\n", 2), config="c", snapshot="s")
    assert key != question_key(Question("1", "Why", 1), config="c", snapshot="s")
    assert key != question_key(why, config="d", snapshot="s")
    assert key != question_key(why, config="c", snapshot="t")
    assert key != question_key(replace(why, where=Filter(paths=("a/",))), config="c", snapshot="s")


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

    second = await run(output, plan(earlier_rows(DataTable(output))), answerer)

    assert (first.report().failed, first.report().answered) == (("2",), 4)
    assert (row["outcome"], row["error"], row["answer"]) == ("error", "stopped", None)
    assert answerer.asked == ["Question 2?"]
    assert (
        second.report().answered,
        second.report().reused,
        second.report().asked,
    ) == (5, 4, 1)


async def test_a_bug_in_one_turn_is_an_error_row(tmp_path: Path):
    async def broken(question: Question, _on_event: EventSink) -> dict[str, Any]:
        raise ZeroDivisionError(question.id)

    batch = plan()
    with AnswerJournal(DataTable(tmp_path / "answers.jsonl"), batch) as journal:
        counts = await answer_questions(
            batch.shards[0], broken, journal, keys=batch.keys, concurrency=asyncio.Semaphore()
        )

    assert (counts.answered, counts.failed) == (0, 2)
    assert rows_of(tmp_path / "answers.jsonl")[0]["error"] == "ZeroDivisionError: 1"


async def test_a_row_says_how_often_its_question_was_asked(tmp_path: Path):
    async def asked_again(question: Question, on_event: EventSink) -> dict[str, Any]:
        on_event(Restarted("broke off"))
        on_event(Restarted("broke off"))
        return await Answerer(failing=("2",))(question, on_event)

    output = DataTable(tmp_path / "answers.parquet")
    await run(output.path, plan(), asked_again)

    assert [row["attempts"] for row in read_rows(output)] == [3] * 5


@pytest.mark.parametrize(
    "error", [ServerAwayError("away", seconds=0.05), RunnerUnreachableError("refused")]
)
async def test_a_server_that_is_away_ends_the_shard_and_leaves_its_questions(
    tmp_path: Path, error: Exception
):
    output = tmp_path / "answers.jsonl"
    batch = plan(shard_questions=5)
    answerer = Answerer()

    async def away_after_two(question: Question, on_event: EventSink) -> dict[str, Any]:
        if len(answerer.asked) < 2:
            return await answerer(question, on_event)
        await asyncio.sleep(0.05)
        raise error

    with pytest.raises(type(error)), AnswerJournal(DataTable(output), batch) as journal:
        await answer_questions(
            batch.shards[0],
            away_after_two,
            journal,
            keys=batch.keys,
            concurrency=asyncio.Semaphore(2),
        )

    assert [row["id"] for row in rows_of(output)] == ["1", "2"]
    assert plan(earlier_rows(DataTable(output))).to_ask == 3


async def test_a_question_that_the_server_dies_of_is_one_row(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    started = monotonic()

    async def poisoned(question: Question, on_event: EventSink) -> dict[str, Any]:
        if question.id != "3":
            return await Answerer()(question, on_event)
        await asyncio.sleep(0.05)
        raise ServerAwayError("away", seconds=2 * (monotonic() - started))

    journal = await run(output, plan(shard_questions=5), poisoned, concurrency=5)

    assert journal.report().failed == ("3",)
    assert rows_of(output)[2]["error"] == "away"


async def test_a_shard_that_is_tried_again_asks_only_what_is_left(tmp_path: Path):
    batch = plan(shard_questions=5)
    first, second = Answerer(failing=("2",)), Answerer()
    with AnswerJournal(DataTable(tmp_path / "answers.jsonl"), batch) as journal:
        for answerer in (first, second):
            await answer_questions(
                batch.shards[0], answerer, journal, keys=batch.keys, concurrency=asyncio.Semaphore()
            )

    assert len(first.asked) == 5
    assert second.asked == ["Question 2?"]


async def test_half_a_character_in_an_answer_is_written_as_an_escape(tmp_path: Path):
    async def odd(question: Question, on_event: EventSink) -> dict[str, Any]:
        return {**await Answerer()(question, on_event), "answer": "a \ud83d b"}

    await run(tmp_path / "answers.jsonl", plan(), odd)

    assert rows_of(tmp_path / "answers.jsonl")[0]["answer"] == "a \ud83d b"


async def test_another_config_or_snapshot_asks_everything_again(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    await run(output, plan(), Answerer())
    rows = earlier_rows(DataTable(output))

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
        with AnswerJournal(DataTable(output), batch) as journal:
            await answer_questions(
                batch.shards[0],
                Answerer(),
                journal,
                keys=batch.keys,
                concurrency=asyncio.Semaphore(),
            )
            journals.append(journal)
            raise KeyboardInterrupt

    journals: list[AnswerJournal] = []
    with pytest.raises(KeyboardInterrupt):
        await interrupted()

    assert [row["id"] for row in rows_of(output)] == ["1", "2"]
    assert journals[0].report().missing == ("3", "4", "5")
    assert [
        question.id
        for shard in plan(earlier_rows(DataTable(output))).shards
        for question in shard.questions
    ] == ["3", "4", "5"]


async def test_a_killed_run_loses_only_the_line_it_was_writing(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    batch = plan()
    partial = tmp_path / "answers.jsonl.partial"
    whole = {"id": "1", "key": batch.keys["1"], "outcome": "answered", "answer": "kept"}
    partial.write_text(json.dumps(whole) + "\n" + '{"id": "2", "key": "' + batch.keys["2"])
    resumed = plan(earlier_rows(DataTable(output)))

    await run(output, resumed, Answerer())

    rows = rows_of(output)
    assert resumed.to_ask == 4
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0]["answer"] == "kept"


async def test_rows_are_on_disk_as_soon_as_they_are_answered(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    batch = plan()

    with AnswerJournal(DataTable(output), batch) as journal:
        await answer_questions(
            batch.shards[0], Answerer(), journal, keys=batch.keys, concurrency=asyncio.Semaphore()
        )

        assert {"1", "2"} == {row["id"] for row in rows_of(journal.partial)}
        assert not output.exists()


def test_two_runs_on_one_output_exclude_each_other(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    with (
        AnswerJournal(DataTable(output), plan()),
        pytest.raises(PlanError, match="another run is writing"),
        AnswerJournal(DataTable(output), plan()),
    ):
        raise AssertionError


async def test_concurrency_holds_over_the_shards_of_a_batch(tmp_path: Path):
    answerer = Answerer()

    await run(tmp_path / "answers.jsonl", plan(shard_questions=1), answerer, concurrency=3)

    assert answerer.most == 3


@pytest.mark.parametrize(
    ("selection", "asked"),
    [
        (Selection(limit=2), ["1", "2"]),
        (Selection(limit=9), ["1", "2", "3", "4", "5"]),
        (Selection(sample=5), ["1", "2", "3", "4", "5"]),
        (Selection(limit=3, sample=3), ["1", "2", "3"]),
    ],
)
def test_a_selection_asks_only_what_it_names(selection: Selection, asked: list[str]):
    batch = plan(selection=selection)

    assert asked == [question.id for shard in batch.shards for question in shard.questions]
    assert len(batch.questions) == 5


def test_a_sample_is_reproducible_and_in_order():
    chosen = [plan(selection=Selection(sample=3, seed=seed)).chosen for seed in (7, 7)]
    others = {plan(selection=Selection(sample=3, seed=seed)).chosen for seed in range(20)}

    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 3
    assert len(others) > 1


def test_only_chosen_questions_are_bounded_to_kinds_where_they_say_none():
    bounded = plan(selection=Selection(limit=1, kinds=("docs",)))
    whole = plan()

    first, *others = whole.questions
    assert [question.where for question in bounded.questions] == [
        Filter(kinds=("docs",)),
        *(question.where for question in others),
    ]
    assert bounded.keys[first.id] != whole.keys[first.id]
    assert {**bounded.keys, first.id: ""} == {**whole.keys, first.id: ""}


async def test_a_selection_keeps_the_rows_of_the_questions_it_leaves_out(tmp_path: Path):
    output = tmp_path / "answers.jsonl"
    await run(output, plan(), Answerer(failing=("1", "5")))

    rows = earlier_rows(DataTable(output))
    journal = await run(output, plan(rows, selection=Selection(limit=1)), Answerer())

    assert [row["id"] for row in rows_of(output)] == ["1", "2", "3", "4"]
    report = journal.report()
    assert (report.answered, report.asked, report.left_out, report.missing) == (4, 1, 1, ())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("notes.jsonl", "my notes\nof today\n"),
        ("notes.jsonl", "no end of line"),
        ("notes.jsonl", '{"key": "k", "id": "1"}\nmy own line\n'),
        ("notes.jsonl", '{"key": "k"}\n{"mine": 1}\n'),
        ("notes.csv", "name,price\n"),
        ("notes.csv", "name,price\nduck,1\n"),
        ("notes.parquet", "no parquet"),
    ],
)
def test_a_file_of_somebody_else_is_overwritten_only_if_asked(tmp_path: Path, name: str, text: str):
    output = tmp_path / name
    output.write_text(text)

    with pytest.raises((PlanError, StoreError)):
        earlier_rows(DataTable(output))
    assert earlier_rows(DataTable(output), overwrite=True) == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.duckdb#faq"])
def test_a_table_of_no_answers_is_ours(tmp_path: Path, name: str):
    path, _, table = name.partition("#")
    output = DataTable(tmp_path / path, table)
    assert earlier_rows(output) == []
    write_rows(output, [])

    assert earlier_rows(output) == []


def test_rows_that_are_no_answers_are_never_overwritten(tmp_path: Path):
    output = tmp_path / "questions.jsonl"
    output.write_text('{"question": "Why?"}\n')

    with pytest.raises(PlanError, match="no answers of a batch"):
        earlier_rows(DataTable(output))


async def test_metrics_compare_with_what_each_question_expects(tmp_path: Path):
    questions = (
        Question("a", "Why?", 1, expected="Answer to why"),
        Question("b", "Why?", 2, expected="Something else"),
        Question("c", "How?", 3, expected="Answer to how"),
    )
    output = tmp_path / "answers.jsonl"

    journal = await run(output, plan(questions=questions), Answerer(failing=("c",)))

    found = {row["id"]: row["metrics"] for row in rows_of(output)}
    assert found["a"] == {"citations": 1.0, "exact": 1.0, "token_f1": 1.0}
    assert found["b"] == {"citations": 1.0, "exact": 0.0, "token_f1": 0.0}
    assert found["c"] == {"citations": 0.0, "exact": 0.0, "token_f1": 0.0}
    report = journal.report()
    assert report.metrics["exact"] == pytest.approx(1 / 3)
    assert (report.failed_share, report.tokens) == (pytest.approx(1 / 3), (10, 5))


@pytest.mark.parametrize("name", ["answers.csv", "answers.parquet", "answers.duckdb#faq"])
async def test_every_kind_of_output_resumes(tmp_path: Path, name: str):
    path, _, table = name.partition("#")
    output = DataTable(tmp_path / path, table)
    limit = asyncio.Semaphore(2)
    first, second = Answerer(failing=("2",)), Answerer()
    for answerer in (first, second):
        batch = plan(earlier_rows(output))
        with AnswerJournal(output, batch) as journal:
            for shard in batch.shards:
                await answer_questions(shard, answerer, journal, keys=batch.keys, concurrency=limit)

    rows = read_rows(output)
    assert second.asked == ["Question 2?"]
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0]["sources"][0]["path"] == "a.py"
    assert rows[0]["tokens"] == {"input": 10, "output": 5}
