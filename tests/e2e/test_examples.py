"""The example configs and the seed examples, as they stand: they compile, and run offline.

The models they name are served by the embedded runner's aliases, or replaced by ``--model-map``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.config.flow_definition import resolve_flows
from merganser.config.load import load_config

from .conftest import CITES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.doubles import FaultyRunner

    from .conftest import History, Ran

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
SEEDS = ROOT / "tests" / "core" / "config" / "seeds"
MAPPED = (
    *("--model-map", "ai/embeddinggemma=ai/all-minilm"),
    *("--model-map", "ai/qwen3:14B=ai/smollm2"),
)

CODE = '"""Retries."""\n\n\ndef wait(n):\n    """Double the pause."""\n    return 2**n\n'
MANUAL = (
    "# Tokens\n\n## Rotation\n\nRotate a token with `token rotate`; the old one lives an hour.\n"
)
NO_TOOLS = "I cannot call anything."
"""What the probe is answered; a model that does not call its tool is given context."""


@pytest.mark.parametrize("path", [*CONFIGS.glob("*.yaml"), *SEEDS.glob("*.yaml")], ids=str)
def test_every_flow_of_the_examples_compiles(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from merganser.flows import pipelines
    from merganser.flows.compile import attribute_name

    monkeypatch.setenv("MERGANSER_CONFIG_PATH", str(path.parent))
    flows = resolve_flows(load_config(path))

    compiled = [getattr(pipelines, attribute_name(path.stem, flow.name)) for flow in flows]

    assert [f"{path.stem}.{flow.name}" for flow in flows] == [flow.name for flow in compiled]
    assert all("pull" in flow.parameters.properties for flow in compiled)


def test_the_codebase_example(
    merganser: Callable[..., Ran], runner: FaultyRunner, tmp_path: Path
) -> None:
    shutil.copy(CONFIGS / "codebase.yaml", tmp_path)
    (tmp_path / "retry.py").write_text(CODE)

    indexed = merganser("index", "codebase.yaml", cwd=tmp_path)
    runner.faults.script_chat([NO_TOOLS, *CITES, "The pause doubles [1]."])
    asked = merganser("run", "codebase.yaml", "How long is the pause?", "--json", cwd=tmp_path)

    assert indexed.code == 0, indexed.err
    assert "ai/embeddinggemma is an alias: ai/all-minilm" in indexed.err
    assert (asked.code, asked.json["answer"]) == (0, "The pause doubles [1].")
    assert "retry.py" in {line["path"] for line in asked.json["sources"] if line["cited"]}


def test_the_document_and_batch_examples(
    merganser: Callable[..., Ran], runner: FaultyRunner, history: History, tmp_path: Path
) -> None:
    for name in ("docs-rerank.yaml", "batch.yaml", "questions.jsonl"):
        shutil.copy(CONFIGS / name, tmp_path)
    (tmp_path / "manual.md").write_text(MANUAL)
    questions = (tmp_path / "questions.jsonl").read_text().splitlines()

    indexed = merganser("index", "docs-rerank.yaml", cwd=tmp_path)
    words = ("search", "docs-rerank.yaml", "How do I rotate a token?", "--explain")
    found = merganser(*words, cwd=tmp_path)
    again = merganser("index", "batch.yaml", "--json", cwd=tmp_path)
    answers = ["With `token rotate` [1]."] * len(questions)
    runner.faults.script_chat([NO_TOOLS, *CITES, *answers])
    answered = merganser("batch", "batch.yaml", "--json", cwd=tmp_path)

    assert indexed.code == 0, indexed.err
    assert found.code == 0, found.err
    assert "manual.md" in found.out
    assert "rerank: skipped (" in found.out + found.err
    assert again.json["indexes"][0]["status"] == "unchanged"
    assert (answered.code, answered.json["questions"]) == (0, len(questions)), answered.err
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert ["answered"] * len(questions) == [row["outcome"] for row in rows]
    assert history.runs("batch.faq")[0]["state_type"] == "COMPLETED"


def test_the_first_seed(
    merganser: Callable[..., Ran], runner: FaultyRunner, tmp_path: Path
) -> None:
    shutil.copy(SEEDS / "first.yaml", tmp_path / "first.yaml")
    runner.faults.script_chat([NO_TOOLS, "How can I help?"])

    asked = merganser("run", "first.yaml", "Hello", "--json", cwd=tmp_path)

    assert (asked.code, asked.json["answer"]) == (0, "How can I help?"), asked.err


def test_the_second_seed_and_the_draft_model_of_an_agent_on_fast_qwen(
    merganser: Callable[..., Ran], runner: FaultyRunner, history: History, tmp_path: Path
) -> None:
    shutil.copy(SEEDS / "second.yaml", tmp_path / "second.yaml")
    (tmp_path / "fast.yaml").write_text(
        "extends: ./second.yaml\n"
        "agents:\n  root: {model: fast-qwen, instruction: Answer., rag: [codebase]}\n"
    )
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "retry.py").write_text(CODE)
    (tmp_path / "documentation").mkdir()
    (tmp_path / "documentation" / "manual.md").write_text(MANUAL)

    indexed = merganser("index", "second.yaml", *MAPPED, "--json", cwd=tmp_path)
    runner.faults.script_chat([NO_TOOLS, *CITES, "It doubles [1]."])
    asked = merganser("run", "second.yaml", "Pause?", *MAPPED, "--json", cwd=tmp_path)
    runner.faults.script_chat([NO_TOOLS, *CITES, "It doubles [1]."])
    fast = merganser("run", "fast.yaml", "Pause?", *MAPPED[:2], "--json", cwd=tmp_path)

    assert indexed.code == 0, indexed.err
    assert [index["name"] for index in indexed.json["indexes"]] == ["codebase", "docs"]
    assert (tmp_path / "code.db" / "CURRENT").exists()
    assert (asked.code, asked.json["answer"]) == (0, "It doubles [1]."), asked.err
    assert fast.code == 0, fast.err
    assert (fast.code, fast.json["answer"]) == (0, "It doubles [1]."), fast.err
    tasks = history.tasks(history.runs("fast.ask-root")[0])
    draft = "ai/qwen3:0.6B-Q4_K_M"
    assert {f"check draft {draft}", f"pull {draft}", f"configure draft {draft}"} <= set(tasks)
    settings = [row["Config"] for row in runner_configurations(runner)]
    assert draft in json.dumps(settings), "the chat model is configured with its draft"


def runner_configurations(runner: FaultyRunner) -> list[dict[str, object]]:
    import httpx

    answer = httpx.get(f"{runner.url}/engines/_configure", trust_env=False)
    return answer.raise_for_status().json()
