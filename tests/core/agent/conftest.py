import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from merganser.agent.answer import Answer
from merganser.agent.turn import take_turn
from merganser.config.load import Config, load_config
from merganser.models.client import ModelRunner
from merganser.retrieval.hits import Hit, SearchResult
from tests.doubles import FaultyRunner, ScriptedAnswer, ScriptedCall

CONFIG = """
version: "2"
models:
  small: {{provider: dmr, model: ai/smollm2, temperature: 0, max_tokens: {max_tokens}}}
agents:
  root:
    model: small
    instruction: You answer questions about birds.
    rag_mode: {rag_mode}
    rag: [birds]
{toolsets}
rag:
  birds:
    docs: [.]
    strategies: [{{type: bm25}}]
"""

DUCK = Hit("ducks.md", 1, 3, "# Ducks\nA merganser is a diving duck.\nIt eats fish.\n", 0.9)
GOOSE = Hit("geese.md", 5, 5, "A goose eats grass.\n", 0.4)


class GivenHits:
    """A retriever over hits at hand: it answers every question with the next list of them."""

    def __init__(self, *answers: tuple[Hit, ...]) -> None:
        self.answers = list(answers) or [(DUCK, GOOSE)]
        self.questions: list[str] = []
        self.notes: tuple[str, ...] = ()

    async def search(self, question: str) -> SearchResult:
        self.questions.append(question)
        hits = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return SearchResult(query=question, hits=hits, notes=self.notes)


class Turns:
    """Asks the one agent of the config, and shows what the scripted model was given."""

    @staticmethod
    async def ask(runner: FaultyRunner, config: Config, retriever: Any, **options: Any) -> Answer:
        async with ModelRunner(runner.url) as client:
            take = partial(take_turn, config, "root", "What does a merganser eat?")
            return await take(
                retrievers={"birds": retriever}, runner=client, turn_id="turn-1", **options
            )

    @staticmethod
    def call(name: str, **arguments: Any) -> ScriptedAnswer:
        return ScriptedAnswer(tool_calls=(ScriptedCall(name, arguments),))

    @staticmethod
    def messages_of(request: Mapping[str, Any]) -> list[dict[str, Any]]:
        return request["messages"]

    @classmethod
    def tool_rows(cls, runner: FaultyRunner) -> list[list[dict[str, Any]]]:
        """What the tools returned, as the last request showed it to the model."""
        return [
            json.loads(message["content"])
            for message in cls.messages_of(runner.faults.scripted_requests[-1])
            if message["role"] == "tool"
        ]


@pytest.fixture
def turns() -> type[Turns]:
    return Turns


@pytest.fixture
def given_hits() -> type[GivenHits]:
    return GivenHits


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Config]:
    def write(*, rag_mode: str = "tool", max_tokens: int = 200, filesystem: bool = False) -> Config:
        toolsets = "    toolsets: [{type: filesystem}]" if filesystem else ""
        path = tmp_path / "birds.yaml"
        path.write_text(CONFIG.format(rag_mode=rag_mode, max_tokens=max_tokens, toolsets=toolsets))
        return load_config(path)

    return write
