"""Index, search, run and batch by hand, one after the other, as a newcomer would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from merganser.indexing.drift import DRIFT_TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.doubles import FaultyRunner

    from .conftest import History, Ran

pytestmark = pytest.mark.timeout(600)


def test_index_search_run_and_batch(
    merganser: Callable[..., Ran], project: Path, history: History, runner: FaultyRunner
) -> None:
    first = merganser("index", "shop.yaml", "--json", cwd=project)
    assert (first.code, first.json["indexes"][0]["added"], first.err) == (0, 3, "")

    embedded = runner.counters.texts_embedded
    again = merganser("index", "shop.yaml", "--json", cwd=project)
    assert (
        again.json["indexes"][0]["status"],
        again.json["indexes"][0]["unchanged"],
    ) == ("unchanged", 3)
    drift_texts = len(DRIFT_TEXTS)  # every run embeds them again
    assert embedded + drift_texts == runner.counters.texts_embedded

    fresh = ("--require-fresh", "--json")
    found = merganser("search", "shop.yaml", "which coupon saves most", *fresh, cwd=project)
    assert found.code == 0
    assert found.json["rags"]["code"]["hits"][0]["path"] == "src/shop/discount.py"

    for path in (project / "src").rglob("*.*"):
        path.write_text(" ".join(f"And {word}" for word in path.read_text().split(" ")))
    stale = merganser("search", "shop.yaml", "When is money refunded?", *fresh, cwd=project)
    hits = stale.json["rags"]["code"]["hits"]
    assert (stale.code, {hit["freshness"] for hit in hits}) == (5, {"changed"})

    asked = merganser("run", "shop.yaml", "When is money refunded?", *fresh, cwd=project)
    assert {line["freshness"] for line in asked.json["sources"]} == {"changed"}
    assert asked.json["answer"].strip(), asked
    assert "src/README.md" in {line["path"] for line in asked.json["sources"]}
    assert asked.json["rag_mode"] == "context"

    (project / "q.jsonl").write_text(
        '{"id": "a", "question": "Who gets an invoice?"}\n'
        '{"id": "b", "question": "When is money refunded?"}\n'
        '{"id": "c", "question": "Who gets an invoice?"}\n'
    )
    batch = merganser("batch", "shop.yaml", "--input", "q.jsonl", "--json", cwd=project)
    rows = [json.loads(line) for line in (project / "q.answers.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert (batch.json["questions"], batch.json["asked"]) == (3, 2)
    assert batch.json["stale"] == [row["id"] for row in rows if row["outcome"] == "answered"]

    resumed = merganser("batch", "shop.yaml", "--input", "q.jsonl", "--json", cwd=project)
    answered = sum(row["outcome"] == "answered" for row in rows)
    assert answered == resumed.json["reused"]

    runs = history.runs("shop.index-code")
    assert [run["state_type"] for run in runs[:2]] == ["COMPLETED", "COMPLETED"]
    names = history.tasks(runs[1])
    assert {
        "check embedding ai/all-minilm",
        "configure embedding ai/all-minilm",
        "survey code",
        "embed 0",
        "confirm ai/all-minilm",
        "build code",
        "publish code",
        "report code",
    } == set(names)


def test_plan_tells_what_index_would_do_and_does_nothing(
    merganser: Callable[..., Ran], project: Path
) -> None:
    plan = merganser("plan", "shop.yaml", "index-code", "--json", cwd=project)

    work = plan.json["plans"][0]["indexes"]["code"]
    assert (len(work["added"]), work["has_work"]) == (3, True), plan
    assert not (project / ".merganser").exists()


def test_doctor_tells_of_a_missing_model_with_its_fix(
    merganser: Callable[..., Ran], project: Path
) -> None:
    text = (project / "shop.yaml").read_text()
    (project / "shop.yaml").write_text(text.replace("ai/smollm2", "ai/no-such-model"))

    found = merganser("doctor", "shop.yaml", "--no-probes", cwd=project)

    assert found.code == 1
    assert "docker model pull ai/no-such-model" in found.out


def test_a_user_mistake_shows_no_traceback(merganser: Callable[..., Ran], project: Path) -> None:
    (project / "shop.yaml").write_text("rag:\n  code:\n    docz: [./src]\n")

    checked = merganser("check", "shop.yaml", cwd=project)
    indexed = merganser("index", "shop.yaml", cwd=project)

    assert (checked.code, indexed.code) == (1, 1)
    assert "shop.yaml:3:5: rag.code.docz" in checked.err
    assert "did you mean" in checked.err.lower()
    assert "Traceback" not in checked.err + indexed.err


def test_without_a_model_server_both_ways_out_are_named(
    merganser: Callable[..., Ran], project: Path
) -> None:
    indexed = merganser("index", "shop.yaml", cwd=project, MODEL_RUNNER_HOST="http://127.0.0.1:9")

    assert indexed.code == 1
    assert "docker model status" in indexed.err
    assert "--embedded" in indexed.err
