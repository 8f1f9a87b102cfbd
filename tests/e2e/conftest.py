"""The whole product as a user has it: commands in processes of their own, real servers behind."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.doubles import FaultyRunner


@dataclass(frozen=True)
class Ran:
    """One finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its stdout as JSON."""
        return json.loads(self.out)


@pytest.fixture(scope="session")
def command_environment(history_url: str, runner: FaultyRunner) -> dict[str, str]:
    """What the commands of the session see."""
    assert history_url
    return {**os.environ, "MODEL_RUNNER_HOST": runner.url}


@pytest.fixture(scope="session")
def merganser(command_environment: dict[str, str]) -> Callable[..., Ran]:
    """Return a function that runs ``merganser WORDS`` in a folder, under what ``prefix`` starts."""

    def run(
        *words: str, cwd: Path, timeout: float = 240.0, prefix: Sequence[str] = (), **env: str
    ) -> Ran:
        done = subprocess.run(
            [*prefix, sys.executable, "-P", "-m", "merganser", *words],
            cwd=cwd,
            env={**command_environment, **env},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def demo_index(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    merganser: Callable[..., Ran],
) -> Path:
    """Index the corpus of ``make demo`` with its config and real embeddings; give the config.

    It takes minutes, so the folder stays between runs. An index is brought up to date by what
    changed since, be it a file, the tokeniser or a model, and equals one that is made anew.
    """
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    folder = cache.mkdir("demo-index") if cache else tmp_path_factory.mktemp("demo-index")
    demo = Path(__file__).parents[2] / "scripts" / "demo.py"
    config: Path = runpy.run_path(str(demo))["prepare"](folder)
    ran = merganser("index", config.name, "--json", cwd=folder, timeout=1500)
    assert ran.code == 0, ran
    return config


@dataclass(frozen=True)
class History:
    """What the Prefect server has recorded, read through its API.

    The recorder writes about once a second, so whoever asks for tasks says how many there are.
    """

    url: str
    login: dict[str, str]

    def ask(self, path: str, query: dict[str, Any] | None = None) -> Any:
        """Return the JSON of a POST with a query, of a GET without."""
        method = "GET" if query is None else "POST"
        answer = httpx.request(
            method,
            f"{self.url}/api/{path}",
            json=query,
            headers=self.login,
            trust_env=False,
            timeout=60.0,
        )
        return answer.raise_for_status().json()

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """Return the runs of a flow, the newest first."""
        query = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC"}
        return self.ask("flow_runs/filter", query)

    def tasks(
        self, run: dict[str, Any], *, settled: bool = True, last: str = ""
    ) -> dict[str, dict[str, Any]]:
        """Return the task runs of a flow run by name, once all of them are final.

        The server writes them down event by event, so a run that is over may lack its last ones;
        ``last`` is the name of one that is waited for.
        """
        query = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        deadline = time.monotonic() + 30.0
        while True:
            found = self.ask("task_runs/filter", query)
            final = all(row["state_type"] in {"COMPLETED", "FAILED", "CRASHED"} for row in found)
            named = {row["name"]: row for row in found}
            whole = found and final and (not last or last in named)
            if whole or not settled or time.monotonic() > deadline:
                return named
            time.sleep(0.2)

    def task_runs(self, run: dict[str, Any], count: int) -> list[dict[str, Any]]:
        """Return the task runs of a flow run, once there are so many and all are final."""
        query = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        deadline = time.monotonic() + 30.0
        while True:
            found = self.ask("task_runs/filter", query)
            final = [row for row in found if row["state_type"] in {"COMPLETED", "FAILED"}]
            if len(final) >= count or time.monotonic() > deadline:
                return found
            time.sleep(0.2)

    def states(self, task: dict[str, Any]) -> list[str]:
        """Return the names of the states that a task run went through, in order."""
        found = self.ask(f"task_run_states/?task_run_id={task['id']}")
        return [state["name"] for state in sorted(found, key=lambda state: state["timestamp"])]

    def logs(self, run: dict[str, Any]) -> list[str]:
        """Return what a flow run and its tasks logged, in order."""
        query = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "sort": "TIMESTAMP_ASC"}
        return [row["message"] for row in self.ask("logs/filter", query)]

    def edges(self, run: dict[str, Any]) -> set[tuple[str, str]]:
        """Return the edges of the run's graph by the names of their ends."""
        nodes = dict(self.ask(f"flow_runs/{run['id']}/graph-v2")["nodes"])
        return {
            (nodes[parent["id"]]["label"], node["label"])
            for node in nodes.values()
            for parent in node["parents"]
        }

    def artifacts(self, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the artifacts of a flow run by key."""
        query = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
        return {row["key"]: row for row in self.ask("artifacts/filter", query)}


@pytest.fixture(scope="session")
def history(history_url: str, login: dict[str, str]) -> History:
    """The record of the session's runs."""
    return History(history_url, login)


NO_TOOLS = "I cannot look that up."
"""What a model that calls no tools answers to the probe of its tools."""

CITES = ("At eleven [3].", "release(connection) [3].")
"""What a model that cites answers to the probe of its citations."""


@dataclass(frozen=True)
class Watched:
    """Runs of one project, as a person would look at them afterwards, and a deployment of it."""

    indexed: dict[str, Any]
    failed: dict[str, Any]
    asked: dict[str, Any]
    answered: dict[str, Any]
    deployment: dict[str, Any]
    embed_requests: int


@pytest.fixture(scope="session")
def watched(
    merganser: Callable[..., Ran],
    history: History,
    runner: FaultyRunner,
    tmp_path_factory: pytest.TempPathFactory,
) -> Watched:
    """An index run that met an outage, one that met a lasting one, a question, a batch."""
    folder = write_project(tmp_path_factory.mktemp("watched"), "watched")

    # More than the short retries within one call.
    runner.faults.inject("status", route="embeddings", status=503, times=4)
    assert merganser("index", "watched.yaml", cwd=folder).code == 0

    runner.faults.script_chat([*CITES, "The coupon that saves most [1]."])
    words = ("run", "watched.yaml", "Which coupon?", "--rag-mode", "context")
    assert merganser(*words, cwd=folder).code == 0

    questions = [{"id": "best", "question": "Which coupon?"}, {"id": "owl", "question": "An owl?"}]
    lines = "".join(f"{json.dumps(question)}\n" for question in questions)
    (folder / "q.jsonl").write_text(lines)
    (folder / "faq.yaml").write_text(FAQ)
    runner.faults.script_chat([NO_TOOLS, *CITES, "The one that saves most [1].", "Owls [99]."])
    assert merganser("batch", "faq.yaml", cwd=folder).code == 3
    assert merganser("deploy", "faq.yaml", "--apply", cwd=folder).code == 0

    (folder / "src" / "new.py").write_text('"""Something new to embed."""\n')
    runner.faults.inject(
        "status", route="embeddings", status=500, times=None, message="the engine is out of order"
    )
    before = runner.counters.route("embeddings")
    failed = merganser("index", "watched.yaml", cwd=folder)
    requests = runner.counters.route("embeddings") - before
    runner.faults.clear()
    assert (failed.code, "Traceback" in failed.err) == (1, False)
    assert "the engine is out of order" in failed.err

    lost, indexed = history.runs("watched.index-code")
    (asked,) = history.runs("watched.ask-root")
    (answered,) = history.runs("faq.faq")
    deployment = history.ask("deployments/name/faq.faq/faq")
    return Watched(indexed, lost, asked, answered, deployment, requests)


CONFIG = """\
models:
  # A small model left alone talks until its context is full.
  small: {provider: dmr, model: ai/smollm2, max_tokens: 40}
agents:
  root:
    model: small
    instruction: Answer from the code.
    rag: [code]
rag:
  code:
    docs: [./src]
    strategies:
      - type: chunked-embeddings
        embedding_model: dmr/ai/all-minilm
        chunking: {size: 800, overlap: 0, code_aware: true}
      - type: bm25
        chunking: {size: 800, overlap: 0, code_aware: true}
    results: {limit: 5}
"""

FAQ = """\
extends: ./watched.yaml
flows:
  faq:
    type: batch
    agent: root
    input: ./q.jsonl
    output: ./a.jsonl
    concurrency: 1
    max_failed: 0.5
"""

SOURCES = {
    "src/shop/discount.py": '''\
"""Discounts."""


def best_discount(prices, coupons):
    """Give the coupon that takes the most off the basket."""
    return max(coupons, key=lambda coupon: coupon.saving(sum(prices)))
''',
    "src/shop/mail.py": '''\
"""Mail to customers."""


def send_invoice(customer, total):
    """Send the invoice by e-mail and remember when."""
    customer.mailbox.deliver(f"You owe {total}")
''',
    "src/README.md": "# Shop\n\n## Refunds\n\nMoney goes back within 14 days.\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small codebase with its config."""
    return write_project(tmp_path, "shop")


def write_project(folder: Path, name: str) -> Path:
    """Write the small codebase; its flows are called ``<name>.index-code`` and the like."""
    (folder / f"{name}.yaml").write_text(CONFIG)
    for file, text in SOURCES.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
