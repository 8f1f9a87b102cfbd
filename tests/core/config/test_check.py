"""What ``merganser check`` shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.config.check import check_as_json, render_check
from merganser.errors import SpecErrors

if TYPE_CHECKING:
    from conftest import Load

SEED = Path(__file__).with_name("seeds") / "second.yaml"


def test_check_names_models_roles_rags_and_flows(load: Load, tmp_path: Path):
    for folder in ("src", "documentation"):
        (tmp_path / folder).mkdir()
    text = render_check(load(SEED.read_text(encoding="utf-8")))

    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[2] == "config.yaml: no errors, 2 warnings"
    assert "ai/embeddinggemma embedding rag.codebase.strategies[0]" in lines
    assert "ai/qwen3 chat models.optimized-qwen (unused)" in lines
    assert "index-docs index docs" in lines
    assert "ask-root ask root" in lines


def test_check_shows_warnings_with_their_positions(load: Load):
    config = load("agents: {root: {welcome_message: hello}}")

    assert render_check(config).startswith(
        f"warning: {config.path}:1:17: agents.root.welcome_message: not supported yet, ignored\n"
        "config.yaml: no errors, 1 warning\n"
    )


def test_check_warns_of_documents_that_are_not_there(load: Load, tmp_path: Path):
    (tmp_path / "there").mkdir()
    config = load(
        """
        rag:
          notes:
            docs: [./there, ./nowhere, "./there/*.md", "gone/**/*.md"]
            strategies: [{type: bm25}]
        """
    )

    warned = [line for line in render_check(config).splitlines() if line.startswith("warning")]

    assert [line.partition(": rag.notes.docs: ")[2].partition(" names")[0] for line in warned] == [
        "'./nowhere'",
        "'gone/**/*.md'",
    ]
    assert warned[0].startswith(f"warning: {config.path}:4:21: ")
    assert [w["key"] for w in check_as_json(config)["warnings"]] == ["rag.notes.docs"] * 2


def test_check_tells_what_becomes_of_the_flags_of_an_engine(load: Load):
    config = load(
        """
        models:
          fast:
            provider: dmr
            model: ai/qwen3
            provider_opts:
              runtime_flags: ["--ngl=33", "--threads", "8", "--thread=3"]
          text: {provider: dmr, model: ai/qwen3, provider_opts: {runtime_flags: "-t 2, --seed -1"}}
          other: {provider: x, base_url: "http://h/v1", model: m, provider_opts: {runtime_flags: a}}
        """
    )

    warned = [line for line in render_check(config).splitlines() if "runtime_flags: " in line]

    assert [line.partition(f"{config.path}:")[2][:2] for line in warned] == ["7:", "7:", "8:"]
    assert warned[0].startswith(f"warning: {config.path}:7:23: models.fast.provider_opts.runtime_")
    assert warned[0].endswith('\'--ngl=33\' goes to the engine as "-ngl", "33": write it so')
    assert "did you mean '--threads'?; it will be left out" in warned[1]
    assert "'--seed -1' has a negative value" in warned[2]


def test_check_as_json_is_json_and_says_the_same(load: Load):
    found = json.loads(json.dumps(check_as_json(load(SEED.read_text(encoding="utf-8")))))

    assert found["ok"] is True
    assert [rag["name"] for rag in found["rags"]] == ["codebase", "docs"]
    assert {m["role"] for m in found["models"]} == {"chat", "draft", "embedding", "reranking"}
    assert [m["used_by"] for m in found["models"] if not m["reached"]] == [
        "models.fast-qwen",
        "models.fast-qwen",
        "models.optimized-qwen",
    ]
    assert [flow["type"] for flow in found["flows"]] == ["index", "index", "ask"]


def test_schedules_and_order_are_shown(load: Load):
    config = load(
        """
        agents: {root: {}}
        rag: {a: {docs: [x], strategies: [{type: bm25}]}}
        flows:
          often: {type: index, schedule: {interval: 15m}}
          soon: {type: index, schedule: {watch: true}}
          then: {type: batch, input: q.jsonl, output: a.jsonl, after: often}
        """
    )

    lines = [" ".join(line.split()) for line in render_check(config).splitlines()]
    assert "often index a every 15m" in lines
    assert "soon index a when files change" in lines
    assert "then batch root after often" in lines


@pytest.mark.parametrize("entry", ["a" * 5000, "a/" * 3000 + "*.md"])
def test_a_path_that_no_file_system_takes_names_nothing(entry: str, load: Load):
    config = load(f"rag: {{a: {{docs: ['{entry}'], strategies: [{{type: bm25}}]}}}}")

    (warned,) = check_as_json(config)["warnings"]

    assert "names no file or folder" in warned["problem"]


@pytest.mark.parametrize(
    "address",
    ["http://[::1", "http://127.0.0.1:99999999/v1", "http://127.0.0.1:x", r"http://a\nb:80/"],
)
def test_an_address_that_cannot_be_read_is_refused_where_it_stands(address: str, load: Load):
    with pytest.raises(SpecErrors, match=r"providers.p.base_url: must be an address such as"):
        load(f'providers: {{p: {{base_url: "{address}"}}}}\n')


def test_of_a_long_line_only_what_is_before_the_caret_is_shown(load: Load):
    with pytest.raises(SpecErrors) as refused:
        load(f"agents: {{root: {{instruction: '{'x' * 100_000}', modell: y}}}}\n")

    shown = str(refused.value)
    _, line, caret, *_ = shown.splitlines()
    assert len(shown) < 2000
    assert line[caret.index("^") :].startswith("modell")
