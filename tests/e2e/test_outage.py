"""A batch whose model server goes away, restarts and forgets: no question is lost."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from tests.doubles.model_server import Double, Host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.e2e.conftest import Ran

CHAT = "/engines/v1/chat/completions"
COUNT, AT_A_TIME = 40, 4
CONFIG = f"""\
models:
  clerk: {{provider: dmr, model: ai/qwen3, provider_opts: {{context_size: 2048}}}}
agents:
  root: {{model: clerk, instruction: Answer shortly.}}
flows:
  faq: {{type: batch, input: q.jsonl, output: a.jsonl, concurrency: {AT_A_TIME}}}
"""


CONFIGURE = "/engines/_configure"
SEARCHED = """\
rag:
  notes:
    docs: [./notes]
    strategies: [{type: chunked-embeddings, embedding_model: dmr/ai/embeddinggemma}]
"""
MODES = {"/embeddings": "embedding", "/chat/completions": "completion"}


@dataclass
class Clerk(Double):
    """Squares the number in a question, rightly only while it is configured.

    Attributes:
        unconfigured: Answers that it gave without its configuration.
        refuses: Whether it cannot be configured.
    """

    unconfigured: int = 0
    refuses: bool = False

    def configure(self, body: dict[str, Any]) -> Response:
        if self.refuses:
            return PlainTextResponse("no such engine\n", 500)
        return super().configure(body)

    async def openai(self, path: str, body: dict[str, Any]) -> Response:
        self.unconfigured += path in MODES and not self.is_configured(MODES[path])
        if path != "/chat/completions" or not body.get("stream"):
            return await super().openai(path, body)
        number = int(str(body["messages"][-1]["content"]).split()[-1].rstrip("?"))
        right = self.is_configured("completion")
        return StreamingResponse(
            squaring(number * number if right else -1), media_type="text/event-stream"
        )


async def squaring(square: int) -> AsyncIterator[str]:
    for text, finish in (("It is ", None), (f"{square}.", "stop")):
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        yield f"data: {json.dumps({'choices': [choice]})}\n\n"
    yield "data: [DONE]\n\n"


@pytest.fixture
def clerk() -> Iterator[tuple[Host, Clerk]]:
    host = Host()
    double = Clerk(url=host.url, delay=0.2)
    host.double = double
    double.add_model("ai/qwen3")
    yield host, double
    host.stop()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "c.yaml").write_text(CONFIG)
    lines = [json.dumps({"id": str(n), "question": f"What is the square of {n}?"}) for n in NUMBERS]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    return tmp_path


NUMBERS = range(3, 3 + COUNT)


def answers(project: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (project / "a.jsonl").read_text().splitlines()]
    return {row["id"]: row["answer"] for row in rows}


RIGHT = {str(n): f"It is {n * n}." for n in NUMBERS}


def begun(double: Double, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(double.asked(CHAT)) < count and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.slow
def test_a_batch_outlasts_a_server_that_is_away(
    merganser: Callable[..., Ran], clerk: tuple[Host, Clerk], project: Path
):
    host, double = clerk

    def leave() -> None:
        begun(double, 10)
        host.leave()
        time.sleep(25)
        host.come_back()

    leaving = threading.Thread(target=leave)
    leaving.start()
    ran = merganser("batch", "c.yaml", cwd=project, MODEL_RUNNER_HOST=host.url)
    leaving.join()

    assert ran.code == 0, ran.err
    assert answers(project) == RIGHT
    assert "waiting for it" in ran.err
    assert len(double.asked(CHAT)) <= COUNT + AT_A_TIME


@pytest.mark.slow
def test_a_batch_survives_restarts_that_forget_the_configuration(
    merganser: Callable[..., Ran], clerk: tuple[Host, Clerk], project: Path
):
    host, double = clerk
    double.restarts_at = {7, 19}
    double.restarts_after = {31}

    ran = merganser("batch", "c.yaml", cwd=project, MODEL_RUNNER_HOST=host.url)

    assert ran.code == 0, ran.err
    assert answers(project) == RIGHT
    assert len(double.asked(CHAT)) <= COUNT + 3 * AT_A_TIME


@pytest.mark.slow
def test_a_server_that_stays_away_ends_a_batch_and_the_next_run_goes_on(
    merganser: Callable[..., Ran], clerk: tuple[Host, Clerk], project: Path
):
    host, double = clerk

    def leave() -> None:
        begun(double, 10)
        host.leave()

    leaving = threading.Thread(target=leave)
    leaving.start()
    ran = merganser(
        "batch", "c.yaml", "--wait-for-server", "3s", cwd=project, MODEL_RUNNER_HOST=host.url
    )
    leaving.join()
    kept = answers(project)
    host.come_back()
    done = merganser("batch", "c.yaml", cwd=project, MODEL_RUNNER_HOST=host.url)

    assert ran.code == 1, ran.err
    assert "could not serve for" in ran.err
    assert "questions are answered and kept" in ran.err
    assert "Traceback" not in ran.err
    assert 0 < len(kept) < COUNT
    assert kept.items() <= RIGHT.items()
    assert done.code == 0, done.err
    assert answers(project) == RIGHT
    assert len(double.asked(CHAT)) <= COUNT + AT_A_TIME


COMMANDS = [
    ("search", "s.yaml", "Where is the pump?"),
    ("run", "c.yaml", "What is the square of 7?"),
    ("batch", "c.yaml"),
]


@pytest.fixture
def forgetful(
    merganser: Callable[..., Ran], clerk: tuple[Host, Clerk], project: Path
) -> tuple[Host, Clerk]:
    """Return a server with an index of its making that has forgotten what was configured."""
    host, double = clerk
    double.add_model("ai/embeddinggemma")
    double.delay = 0.0
    (project / "s.yaml").write_text(SEARCHED)
    (project / "notes").mkdir()
    (project / "notes" / "a.md").write_text("The pump is in the cellar.\n")
    assert merganser("index", "s.yaml", cwd=project, MODEL_RUNNER_HOST=host.url).code == 0
    host.leave()
    host.come_back()
    return host, double


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_every_command_sets_the_configuration_and_waits_for_others_aloud(
    merganser: Callable[..., Ran],
    forgetful: tuple[Host, Clerk],
    project: Path,
    command: tuple[str, ...],
):
    host, double = forgetful
    double.busy_polls = 3

    ran = merganser(*command, cwd=project, MODEL_RUNNER_HOST=host.url)

    assert ran.code == 0, ran.err
    assert double.unconfigured == 0
    assert "is answering others under another configuration; waiting" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_every_command_says_why_a_configuration_cannot_be_set(
    merganser: Callable[..., Ran],
    forgetful: tuple[Host, Clerk],
    project: Path,
    command: tuple[str, ...],
):
    host, double = forgetful
    double.refuses = True

    ran = merganser(*command, cwd=project, MODEL_RUNNER_HOST=host.url)

    assert "no such engine" in ran.err
    assert "Traceback" not in ran.err
    assert double.unconfigured == 0
