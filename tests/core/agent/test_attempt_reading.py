from collections.abc import Callable
from typing import Any

import pytest

from merganser.agent.answer import Answer
from merganser.agent.attempt import support
from merganser.agent.events import Reading, TextDelta, TurnEvent
from merganser.agent.turn import take_turn
from merganser.config.load import Config
from merganser.models.client import ModelRunner
from tests.doubles import FaultyRunner

WriteConfig = Callable[..., Config]
GivenHits = Callable[..., Any]

CITES_THE_FIRST = "On Sundays it opens at eleven [1]."


async def ask(
    runner: FaultyRunner, config: Config, retriever: Any, events: list[TurnEvent] | None = None
) -> Answer:
    async with ModelRunner(runner.url) as client:
        return await take_turn(
            config,
            "root",
            "What does a merganser eat?",
            retrievers={"birds": retriever},
            runner=client,
            turn_id="turn-1",
            on_event=events.append if events is not None else None,
        )


def prompts(runner: FaultyRunner) -> list[str]:
    return [request["messages"][-1]["content"] for request in runner.faults.scripted_requests]


async def test_a_model_that_cites_wrongly_is_shown_the_best_passage_alone(
    runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([CITES_THE_FIRST, "A merganser eats fish."])
    events: list[TurnEvent] = []

    answer = await ask(runner, write_config(rag_mode="context"), given_hits(), events)

    shown = prompts(runner)[-1]
    assert shown.startswith("Read this part of ducks.md:\n\n# Ducks\nA merganser is a diving duck.")
    assert "goose" not in shown
    assert answer.text == "A merganser eats fish. [1]"
    assert [(str(line), line.cited) for line in answer.sources] == [
        ("ducks.md:1-3", True),
        ("geese.md:5-5", False),
    ]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == answer.text


async def test_a_model_that_cites_the_right_source_twice_is_shown_them_all(
    runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat(["At eleven [3].", "release closes it [3].", "It eats fish [1]."])

    answer = await ask(runner, write_config(rag_mode="context"), given_hits())

    assert "[2] geese.md:5-5" in prompts(runner)[-1]
    assert answer.text == "It eats fish [1]."


async def test_an_answer_that_does_not_rest_on_its_passage_is_asked_for_with_the_next(
    runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([CITES_THE_FIRST, "Pancakes with syrup.", "It eats grass."])
    events: list[TurnEvent] = []

    answer = await ask(runner, write_config(rag_mode="context"), given_hits(), events)

    assert answer.text == "It eats grass. [2]"
    assert [line.id for line in answer.sources if line.cited] == [2]
    assert [e.place for e in events if isinstance(e, Reading)] == ["ducks.md:1-3", "geese.md:5-5"]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == answer.text
    assert answer.usage.requests == 2


async def test_an_answer_that_rests_on_nothing_is_a_failure(
    runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([CITES_THE_FIRST, "Pancakes.", "Waffles with syrup."])

    answer = await ask(runner, write_config(rag_mode="context"), given_hits())

    assert answer.outcome == "failed: rests on no source"
    assert not any(line.cited for line in answer.sources)
    assert "the answer does not rest on what was retrieved" in answer.notes


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It eats fish.", 1.0),
        ("A merganser eats.", 0.0),
        ("It eats cake.", 0.0),
        ("It dives for fish and cake.", 0.6),
        ("", 0.0),
    ],
)
def test_support_counts_what_an_answer_adds_to_the_question(answer: str, expected: float) -> None:
    passage = "A merganser is a diving duck. It dives for fish. It eats 16."

    assert support(answer, "What does a merganser eat?", passage) == pytest.approx(expected)
