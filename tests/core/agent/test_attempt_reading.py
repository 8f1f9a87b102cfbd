from collections.abc import Callable
from typing import Any

from merganser.agent.answer import Answer
from merganser.agent.events import Reading, TextDelta, TurnEvent
from merganser.agent.turn import take_turn
from merganser.config.load import Config
from merganser.models.client import ModelRunner
from tests.doubles import FaultyRunner

WriteConfig = Callable[..., Config]
GivenHits = Callable[..., Any]

CITES_THE_FIRST = "On Sundays it opens at eleven [1]."


async def ask(
    runner: FaultyRunner,
    config: Config,
    retriever: Any,
    events: list[TurnEvent] | None = None,
    question: str = "What does a merganser eat?",
) -> Answer:
    async with ModelRunner(runner.url) as client:
        return await take_turn(
            config,
            "root",
            question,
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


async def test_what_does_not_stand_in_its_passage_gives_way_to_a_quotation(
    runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([CITES_THE_FIRST, "Pancakes with syrup."])
    events: list[TurnEvent] = []

    answer = await ask(runner, write_config(rag_mode="context"), given_hits(), events)

    assert answer.outcome == "quoted"
    assert answer.text.startswith("The documents say:\n\n> ")
    assert "fish" in answer.text
    assert [line.id for line in answer.sources if line.cited] == [1]
    # The passage about geese does not name the bird that is asked about: it is not read.
    assert [e.place for e in events if isinstance(e, Reading)] == ["ducks.md:1-3"]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == answer.text
    assert answer.usage.requests == 1
    assert [(claim.text, claim.holds) for claim in answer.claims] == [
        ("Pancakes with syrup.", False)
    ]


async def test_a_question_that_no_passage_bears_on_is_not_put_to_the_model(
    runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([CITES_THE_FIRST])

    answer = await ask(
        runner, write_config(rag_mode="context"), given_hits(), question="Who sells cheese?"
    )

    assert (answer.outcome, answer.text, answer.usage.requests) == ("no answer", "", 0)
    assert not any(line.cited for line in answer.sources)
    assert "the model's text does not stand: no passage bears on the question" in answer.notes
