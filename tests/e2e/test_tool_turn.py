"""One turn in which the model itself searches, from the YAML to the checked citations.

With ``MODEL_RUNNER_HOST`` set it runs on that server's model (``TOOL_TURN_MODEL``, or the first one
there that calls tools). Without, the embedded runner plays a tool-calling model by script, because
no packaged model calls tools: the choice of calling the tool and the wording are then the script's.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from merganser.agent.turn import take_turn
from merganser.config.load import Config, load_config
from merganser.config.rag_definition import resolve_rag
from merganser.errors import ModelRunnerError
from merganser.indexing.run import index_once_async
from merganser.models.client import ModelRunner
from merganser.models.ref import ModelRef, Role
from merganser.retrieval.opening import open_retrievers
from tests.doubles import FaultyRunner, ScriptedAnswer, ScriptedCall

CONFIG = """
models:
  chat: {{provider: dmr, model: {model}, temperature: 0}}
agents:
  root:
    model: chat
    instruction: You answer questions about the ferries of Lake Brunnen. Always search first.
    rag: [ferries]
rag:
  ferries:
    docs: [./docs]
    tool: {{description: Timetables and fares of the ferries of Lake Brunnen.}}
    strategies: [{{type: bm25}}]
"""
FARES = (
    "# Fares\n\nThe night ferry Aglaia costs 47 crowns.\nThe day ferry Zephyr costs 12 crowns.\n"
)
TIMES = "# Times\n\nThe Zephyr leaves at noon.\nThe Aglaia leaves at nine in the evening.\n"
QUESTION = "How many crowns does the night ferry Aglaia cost?"

PROBE = ScriptedAnswer(tool_calls=(ScriptedCall("get_weather", {"city": "Paris"}),))
SEARCH = ScriptedAnswer(tool_calls=(ScriptedCall("ferries", {"query": "Aglaia fare crowns"}),))


@dataclass(frozen=True)
class ToolServer:
    url: str
    model: str


@pytest.fixture
async def tool_server(request: pytest.FixtureRequest) -> ToolServer:
    if host := os.environ.get("MODEL_RUNNER_HOST"):
        return ToolServer(host, await find_tool_model(host))
    runner: FaultyRunner = request.getfixturevalue("runner")
    runner.faults.script_chat([PROBE, SEARCH, "The night ferry Aglaia costs 47 crowns [1]."])
    return ToolServer(runner.url, "ai/smollm2")


async def find_tool_model(host: str) -> str:
    if named := os.environ.get("TOOL_TURN_MODEL"):
        return named
    async with ModelRunner(host) as client:
        for model in await client.list_models():
            try:
                if await client.calls_tools(model.ref):
                    return model.ref
            except ModelRunnerError:
                continue  # an embedding model, or one that does not load here
    pytest.skip(f"no model of {host} calls tools; pull one, for example ai/qwen3")


@pytest.fixture
async def config(tmp_path: Path, tool_server: ToolServer) -> Config:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "fares.md").write_text(FARES)
    (tmp_path / "docs" / "times.md").write_text(TIMES)
    path = tmp_path / "ferries.yaml"
    path.write_text(CONFIG.format(model=tool_server.model))
    config = load_config(path)
    for index in resolve_rag(config, "ferries").indexes:
        await index_once_async(index, None)
    return config


def no_models(_role: Role, _model: ModelRef) -> None:
    """Words alone are searched, so no model is needed for it."""


async def test_the_model_searches_and_its_answer_cites_the_right_lines(
    config: Config, tool_server: ToolServer
):
    async with (
        ModelRunner(tool_server.url) as client,
        open_retrievers(config, ["ferries"], no_models) as retrievers,
    ):
        answer = await take_turn(
            config,
            "root",
            QUESTION,
            retrievers=retrievers,
            runner=client,
            turn_id=uuid4().hex,
        )

    assert answer.rag_mode == "tool"
    assert "ferries" in {use.name for use in answer.tool_calls}
    assert "47" in answer.text
    assert answer.outcome == "answered"
    assert answer.invalid_citations == ()
    assert "docs/fares.md" in {line.path for line in answer.sources if line.cited}
    assert answer.usage.requests >= 2
