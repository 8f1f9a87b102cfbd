import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import pytest
from prefect import flow

from merganser.agent.resume import keep_turn
from merganser.batch.journal import BatchFailedError, BatchReport
from merganser.batch.selection import Selection, snapshots_of
from merganser.config.flow_definition import BatchFlow, models_of_flow, resolve_flow, resolve_flows
from merganser.config.load import Config, load_config
from merganser.config.rag_definition import resolve_rag
from merganser.errors import NoSnapshotError, PlanError, SpecErrors
from merganser.flows.ask import answer_question
from merganser.flows.batch import answer_batch
from merganser.flows.compile import compile_flow
from merganser.flows.models import ModelPolicy, ModelStages
from merganser.indexing.run import index_once
from tests.doubles import FaultyRunner, ScriptedAnswer, ScriptedCall

pytestmark = pytest.mark.usefixtures("citing_model")

CONFIG = """
models:
  small: {provider: dmr, model: ai/smollm2, max_tokens: 60}
agents:
  root: {model: small, rag: [birds], rag_mode: context}
rag:
  birds:
    docs: [./docs]
    strategies: [{type: bm25}]
flows:
  faq: {type: batch, agent: root, input: ./questions.jsonl, output: ./answers.jsonl, concurrency: 2}
"""


T = TypeVar("T")


class InFlow(Protocol):
    def __call__(self, config: Config, work: Callable[[ModelStages], T]) -> T: ...


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "ducks.md").write_text("# Ducks\n\nA merganser eats fish.\n")
    (tmp_path / "docs" / "geese.md").write_text("# Geese\n\nA goose eats grass.\n")
    (tmp_path / "birds.yaml").write_text(CONFIG)
    return load_config(tmp_path / "birds.yaml")


@pytest.fixture
def indexed(config: Config) -> Config:
    reindex(config)
    return config


def reindex(config: Config) -> None:
    for index in resolve_rag(config, "birds").indexes:
        index_once(index, None)


def faq_of(config: Config) -> BatchFlow:
    (found,) = (each for each in resolve_flows(config) if isinstance(each, BatchFlow))
    return found


@pytest.fixture
def in_flow(runner: FaultyRunner, prefect_server: None) -> InFlow:
    """Run a function on the stages within a flow run whose models are ready."""

    def run(config: Config, work: Callable[[ModelStages], T]) -> T:
        @flow(name="answers", persist_result=False)
        def answers() -> None:
            models = ModelStages(ModelPolicy(base_url=runner.url))
            for use in models_of_flow(config, faq_of(config)):
                models.check(use)
                models.pull(use)
                models.configure(use)
            results.append(work(models))

        results: list[T] = []
        answers()
        return results[0]

    return run


def answer_all(config: Config, in_flow: InFlow) -> BatchReport:
    return in_flow(config, lambda models: answer_batch(config, models, faq_of(config), Selection()))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_turn_searches_the_published_index_and_cites_it(
    runner: FaultyRunner, indexed: Config, in_flow: InFlow
):
    runner.faults.script_chat(["A merganser eats fish [1]."])

    answer = in_flow(
        indexed,
        lambda models: answer_question(
            indexed, models, "root", "What does a merganser eat?", turn_id=uuid4().hex
        ),
    )

    assert answer.outcome == "answered"
    assert "docs/ducks.md" in {line.path for line in answer.sources if line.cited}


def test_what_is_kept_of_a_turn_goes_with_the_snapshot_it_searched(
    runner: FaultyRunner, config: Config, in_flow: InFlow
):
    flows = "flows:\n  fresh: {type: index, keep_snapshots: 1}\n"
    config.path.write_text(config.path.read_text().replace("flows:\n", flows))
    kept = load_config(config.path)
    reindex(kept)
    runner.faults.script_chat(["A merganser eats fish [1]."])
    turn_id = uuid4().hex
    in_flow(kept, lambda models: answer_question(kept, models, "root", "What?", turn_id=turn_id))
    results = list(keep_turn(turn_id, []).glob("*"))

    (config.directory / "docs" / "swans.md").write_text("# Swans\n")
    fresh: Any = compile_flow(kept, resolve_flow(kept, "fresh"))
    fresh(base_url=runner.url)

    assert len(results) == 2, "the mark and one model request"
    assert not results[0].parent.exists()


def test_the_model_may_search_by_itself(runner: FaultyRunner, indexed: Config, in_flow: InFlow):
    search = ScriptedAnswer(tool_calls=(ScriptedCall("birds", {"query": "goose"}),))
    runner.faults.script_chat([search, "A goose eats grass [1]."])

    answer = in_flow(
        indexed,
        lambda models: answer_question(
            indexed, models, "root", "What does a goose eat?", turn_id=uuid4().hex, rag_mode="tool"
        ),
    )

    assert answer.rag_mode == "tool"
    assert "docs/geese.md" in {line.path for line in answer.sources if line.cited}


def test_an_agent_whose_rag_was_never_indexed_says_so(config: Config, in_flow: InFlow):
    with pytest.raises(NoSnapshotError):
        in_flow(
            config,
            lambda models: answer_question(config, models, "root", "Why?", turn_id=uuid4().hex),
        )


def test_a_batch_answers_in_order_and_resumes(
    runner: FaultyRunner, indexed: Config, in_flow: InFlow, tmp_path: Path
):
    questions = [{"id": f"q{n}", "question": f"What does merganser {n} eat?"} for n in range(10)]
    (tmp_path / "questions.jsonl").write_text("".join(f"{json.dumps(q)}\n" for q in questions))
    runner.faults.script_chat(["Fish [1]."] * 9 + ["Fish [99]."])

    first = answer_all(indexed, in_flow)
    rows = rows_of(tmp_path / "answers.jsonl")
    runner.faults.script_chat(["Fish [1]."])
    second = answer_all(indexed, in_flow)

    assert [row["id"] for row in rows] == [q["id"] for q in questions]
    assert (first.answered, len(first.failed), first.asked) == (9, 1, 10)
    assert {row["outcome"] for row in rows} == {"answered", "failed: cites unknown source"}
    assert rows[0]["sources"][0]["path"] == "docs/ducks.md"
    assert (second.answered, second.reused, second.asked) == (10, 9, 1)
    assert len(runner.faults.scripted_requests) == 11


def test_a_new_snapshot_asks_again(
    runner: FaultyRunner, indexed: Config, in_flow: InFlow, tmp_path: Path
):
    (tmp_path / "questions.jsonl").write_text('{"question": "What does a merganser eat?"}\n')
    runner.faults.script_chat(["Fish [1].", "Eels [1]."])
    answer_all(indexed, in_flow)
    before = snapshots_of(indexed, ["birds"])
    (tmp_path / "docs" / "ducks.md").write_text("# Ducks\n\nA merganser eats eels.\n")
    reindex(indexed)

    report = answer_all(indexed, in_flow)

    assert before != snapshots_of(indexed, ["birds"])
    assert report.asked == 1
    assert rows_of(tmp_path / "answers.jsonl")[0]["answer"] == "Eels [1]."


def test_an_index_run_that_changes_nothing_keeps_the_answers(indexed: Config):
    before = snapshots_of(indexed, ["birds"])

    reindex(indexed)

    assert before == snapshots_of(indexed, ["birds"])


def test_questions_that_cannot_be_read_fail_before_any_is_asked(
    runner: FaultyRunner, indexed: Config, in_flow: InFlow, tmp_path: Path
):
    (tmp_path / "questions.jsonl").write_text('{"question": "Why?"}\nnonsense\n')
    runner.faults.script_chat(["Fish."])

    with pytest.raises(SpecErrors, match=r"questions\.jsonl:2:1"):
        answer_all(indexed, in_flow)

    assert runner.faults.scripted_requests == ()
    assert not (tmp_path / "answers.jsonl").exists()


def test_a_filter_of_a_question_bounds_what_is_retrieved(
    runner: FaultyRunner, indexed: Config, in_flow: InFlow, tmp_path: Path
):
    question = {"question": "Who eats grass or fish?", "filters": {"path": "docs/ducks.md"}}
    (tmp_path / "questions.jsonl").write_text(json.dumps(question))
    runner.faults.script_chat(["Ducks [1]."])

    answer_all(indexed, in_flow)

    (row,) = rows_of(tmp_path / "answers.jsonl")
    assert [source["path"] for source in row["sources"]] == ["docs/ducks.md"]


def test_kinds_bound_what_is_retrieved_for_a_turn_and_for_a_batch(
    runner: FaultyRunner, indexed: Config, in_flow: InFlow, tmp_path: Path
):
    (tmp_path / "docs" / "fish.csv").write_text("bird,eats\nmerganser,fish\n")
    reindex(indexed)
    questions = [
        {"question": "Who eats grass or fish?"},
        {"question": "Which merganser eats?", "filters": {"kind": "docs"}},
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    runner.faults.script_chat(["Fish [1]."])

    answer = in_flow(
        indexed,
        lambda models: answer_question(
            indexed, models, "root", "Who eats?", turn_id=uuid4().hex, kinds=("data",)
        ),
    )
    chosen = Selection(kinds=("data",))
    in_flow(indexed, lambda models: answer_batch(indexed, models, faq_of(indexed), chosen))

    assert [source.path for source in answer.sources] == ["docs/fish.csv"]
    found = [{s["path"] for s in row["sources"]} for row in rows_of(tmp_path / "answers.jsonl")]
    assert found[0] == {"docs/fish.csv"}
    assert "docs/ducks.md" in found[1]
    assert "docs/fish.csv" not in found[1]


def test_a_judge_that_fails_its_examples_stops_the_batch_before_anything_is_asked(
    runner: FaultyRunner, config: Config, in_flow: InFlow, tmp_path: Path
):
    text = config.path.read_text().replace("concurrency: 2}", "judge: small}")
    config.path.write_text(text)
    judged = load_config(config.path)
    reindex(judged)
    (tmp_path / "questions.jsonl").write_text('{"question": "What does a merganser eat?"}\n')
    runner.faults.script_chat(['{"verdict": "yes"}'] * 8)

    with pytest.raises(PlanError, match="got 4 of 8"):
        answer_all(judged, in_flow)

    assert len(runner.faults.scripted_requests) == 8


def run_faq(config: Config, runner: FaultyRunner) -> tuple[Any, str, str]:
    """Run the compiled flow; gives the outcome or the error, the state's name and its type."""
    compiled: Any = compile_flow(config, faq_of(config))
    state = compiled(base_url=runner.url, return_state=True)
    result = state.result(raise_on_failure=False)
    return result, str(state.name), str(state.type.value)


@pytest.mark.parametrize(
    ("max_failed", "state"), [("0.5", ("Degraded", "COMPLETED")), ("0.4", ("Failed", "FAILED"))]
)
@pytest.mark.usefixtures("prefect_server")
def test_failed_questions_show_in_the_state_of_the_run(
    runner: FaultyRunner, config: Config, tmp_path: Path, max_failed: str, state: tuple[str, str]
):
    text = config.path.read_text().replace("concurrency: 2}", f"max_failed: {max_failed}}}")
    config.path.write_text(text)
    limited = load_config(config.path)
    reindex(limited)
    lines = [f'{{"id": "{n}", "question": "What does merganser {n} eat?"}}' for n in range(2)]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    runner.faults.script_chat(["Fish [1].", "Fish [99]."])

    result, *seen = run_faq(limited, runner)

    assert tuple(seen) == state
    report = result.report if isinstance(result, BatchFailedError) else result.batch
    assert (report.answered, len(report.failed)) == (1, 1)
    assert len(rows_of(tmp_path / "answers.jsonl")) == 2
