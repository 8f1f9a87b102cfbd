"""Gates and evaluations as flows: a real model, a real Prefect server, real files."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from merganser.config.flow_definition import resolve_flow
from merganser.config.load import load_config
from merganser.config.rag_definition import resolve_rag
from merganser.errors import NoSnapshotError, QualityError, SpecErrors
from merganser.flows.compile import compile_flow
from merganser.flows.evaluate import EvaluationFailedError
from merganser.services.prefect_server import authorization, server_login
from merganser.store.evaluations import list_evaluations
from merganser.store.folder import IndexFolder
from merganser.store.history import list_runs
from merganser.store.reader import open_snapshot
from merganser.store.snapshots import list_snapshots

if TYPE_CHECKING:
    from pathlib import Path

    from merganser.flows.execute import Outcome
    from tests.doubles import FaultyRunner

pytestmark = pytest.mark.timeout(180)

CONFIG = """
rag:
  birds:
    docs: [./docs]
    strategies:
      - {type: chunked-embeddings, embedding_model: dmr/ai/all-minilm, chunking: {size: 300}}
      - {type: bm25, chunking: {size: 600, overlap: 0}}
flows:
  reindex:
    type: index
    gate:
      - {queries: ./evals.jsonl, metric: recall@5, min: 0.9}
      - {queries: ./evals.jsonl, metric: mrr@10, max_drop: 0.2}
    keep_snapshots: 2
  quality:
    type: evaluate
    queries: ./evals.jsonl
    metrics: [recall@5, {metric: success@5, min: 0.9}]
"""

DUCKS = {"id": "fish", "query": "Which bird eats fish?", "path": "docs/ducks.md", "quote": "fish"}
GEESE = {"id": "grass", "query": "Who eats grass?", "path": "docs/geese.md", "lines": "1-3"}
EELS = {"id": "eels", "query": "Who eats eels?", "path": "docs/ducks.md", "quote": "eats eels"}


class Birds:
    """A config with its documents; runs its flows against the shared servers."""

    def __init__(self, folder: Path, runner: FaultyRunner) -> None:
        self.folder = folder
        self.runner = runner
        self.write("birds.yaml", CONFIG)
        self.write("docs/ducks.md", "# Ducks\n\nA merganser eats fish.\n")
        self.write("docs/geese.md", "# Geese\n\nA goose eats grass.\n")
        self.queries(DUCKS, GEESE)

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(exist_ok=True)
        (self.folder / path).write_text(text, encoding="utf-8")

    def queries(self, *lines: dict[str, Any]) -> None:
        self.write("evals.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))

    def run(self, flow: str = "reindex", **parameters: Any) -> Outcome:
        config = load_config(self.folder / "birds.yaml")
        run = compile_flow(config, resolve_flow(config, flow))
        return run(base_url=self.runner.url, **parameters)

    @property
    def indexes(self) -> list[Path]:
        config = load_config(self.folder / "birds.yaml")
        return [index.folder for index in resolve_rag(config, "birds").indexes]

    def generations(self) -> list[list[int]]:
        return [[one.generation for one in list_snapshots(folder)] for folder in self.indexes]


@pytest.fixture
def birds(tmp_path: Path, runner: FaultyRunner, prefect_server: str) -> Birds:
    assert prefect_server
    return Birds(tmp_path, runner)


def asks(server: str) -> httpx.Client:
    login = {"Authorization": str(authorization(server_login()))}
    return httpx.Client(base_url=f"{server}/api", headers=login, trust_env=False)


def artifact(server: str, key: str) -> str:
    with asks(server) as api:
        answer = api.get(f"/artifacts/{key}/latest")
    data = answer.raise_for_status().json()["data"]
    return data if isinstance(data, str) else json.dumps(data)


def latest_run(server: str, flow: str, *finished: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the latest run of a flow with its task runs, which come a little later."""
    query = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC", "limit": 1}
    with asks(server) as api:
        return _latest_run(api, query, finished)


def _latest_run(
    api: httpx.Client, query: dict[str, Any], finished: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    (run,) = api.post("/flow_runs/filter", json=query).json()
    wanted = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    deadline = time.monotonic() + 60
    while True:
        rows = api.post("/task_runs/filter", json=wanted).json()
        tasks = {row["name"]: row["state_type"] for row in rows}
        if all(tasks.get(name) in {"COMPLETED", "FAILED"} for name in finished):
            return run, tasks
        assert time.monotonic() < deadline, tasks
        time.sleep(0.2)


def test_a_gate_that_fails_publishes_nothing_and_one_that_holds_publishes(
    birds: Birds, prefect_server: str
):
    birds.queries(DUCKS, GEESE, EELS)

    with pytest.raises(QualityError) as caught:
        birds.run()

    assert "the gate of 'birds' failed" in str(caught.value)
    assert "recall@5 is 0.6667, 0.2333 below the least, 0.9" in str(caught.value)
    assert "0.00  eels  'Who eats eels?'" in str(caught.value)
    for folder in birds.indexes:
        with pytest.raises(NoSnapshotError):
            open_snapshot(folder)
        (failed,) = list_runs(IndexFolder(folder))
        assert (failed.status, "recall@5" in failed.error) == ("failed", True)
    run, tasks = latest_run(prefect_server, "birds.reindex", "gate birds")
    assert run["state_type"] == "FAILED"
    assert "recall@5 is 0.6667" in run["state"]["message"]
    assert tasks["gate birds"] == "FAILED"
    assert not [name for name in tasks if name.startswith("publish")]
    shown = artifact(prefect_server, "gate-birds")
    assert "**FAILED**" in shown
    assert "0.2333 below" in shown
    assert "'Who eats eels?'" in shown

    birds.queries(DUCKS, GEESE)
    fixed = birds.run()

    assert [report.status for report in fixed.reports] == ["published", "published"]
    assert [report.texts_embedded for report in fixed.reports] == [0, 0]
    assert fixed.reports[0].texts_reused > 0
    assert birds.generations() == [[1], [1]]
    assert fixed.assessments[0].passed


SECRETS_CONFIG = """
rag:
  birds: {docs: [./docs], strategies: [{type: bm25}]}
flows:
  reindex: {type: index, gate: {secrets: 1}}
"""
TOKEN = "ghp_" + "k3Vb9QxTz7Lm2NcR8sWd4YfH6jPaE5uGiKoX"


def test_a_gate_holds_back_files_with_more_secrets_and_names_them(
    birds: Birds, prefect_server: str
):
    birds.write("birds.yaml", SECRETS_CONFIG)
    birds.write("docs/deploy.md", f"# Deploy\n\nTOKEN={TOKEN}\n")
    assert birds.run().reports[0].status == "published"
    birds.write("docs/nest.md", "\n" + f"TOKEN={TOKEN[:-1]}Q\n" * 6)

    with pytest.raises(QualityError) as caught:
        birds.run()

    assert str(caught.value).splitlines() == [
        "the gate of 'birds' failed; nothing is published, what was served stays:",
        "secrets in its files: 7, allowed: 1",
        "  docs/deploy.md:3: github-token",
        *(f"  docs/nest.md:{line}: github-token" for line in (2, 3, 4, 5)),
        "  and 2 more",
    ]
    assert birds.generations() == [[1]]
    failed, _ = list_runs(IndexFolder(birds.indexes[0]))
    assert (failed.status, "docs/nest.md:2" in failed.error) == ("failed", True)
    run, tasks = latest_run(prefect_server, "birds.reindex", "count secrets birds")
    assert (run["state_type"], tasks["count secrets birds"]) == ("FAILED", "FAILED")
    assert not [name for name in tasks if name.startswith("publish")]
    assert TOKEN[:20] not in json.dumps(run)

    birds.write("docs/nest.md", "A nest.\n")

    assert birds.run().reports[0].status == "published"
    assert birds.generations() == [[2, 1]]


def test_a_snapshot_that_is_worse_than_the_served_one_is_held_back(birds: Birds):
    birds.run()
    birds.write(
        "birds.yaml", CONFIG.replace("metric: recall@5, min: 0.9", "metric: recall@5, min: 0.1")
    )
    birds.write("docs/ducks.md", "# Ducks\n\nNothing.\n")

    with pytest.raises(QualityError, match=r"below the 1\.0000 of the served snapshot 1\+1"):
        birds.run()

    assert birds.generations() == [[1], [1]]
    with open_snapshot(birds.indexes[0]) as served:
        assert "fish" in served.file_chunks("docs/ducks.md")[0].text


def test_a_run_that_changes_nothing_has_nothing_to_gate(birds: Birds, prefect_server: str):
    birds.run()

    again = birds.run()

    assert [report.status for report in again.reports] == ["unchanged", "unchanged"]
    assert again.assessments == ()
    _, tasks = latest_run(prefect_server, "birds.reindex", "report birds", "report birds-bm25")
    assert "gate birds" not in tasks


def test_as_many_snapshots_are_kept_as_the_flow_says(birds: Birds):
    for number in range(4):
        birds.write("docs/swans.md", f"# Swans\n\nSwan {number} sings.\n")
        birds.run()

    assert birds.generations() == [[4, 3], [4, 3]]
    catalogues = [sorted(p.name for p in folder.glob("g*.duckdb")) for folder in birds.indexes]
    assert catalogues == [["g000003.duckdb", "g000004.duckdb"]] * 2


def test_queries_that_cannot_be_read_publish_nothing(birds: Birds):
    birds.write("evals.jsonl", '{"query": "Why?"}\nnonsense\n')

    with pytest.raises(SpecErrors, match=r"evals\.jsonl:1:1: says nothing(.|\n)*evals\.jsonl:2:1"):
        birds.run()

    assert birds.generations() == [[], []]


def test_an_evaluation_leaves_figures_history_and_a_chart(birds: Birds, prefect_server: str):
    birds.run()

    first, second = birds.run("quality"), birds.run("quality")

    (assessment,) = second.assessments
    assert first.assessments[0].baseline is None
    assert assessment.baseline is not None
    assert [figure.value for figure in assessment.evaluation.figures] == [1.0, 1.0]
    rows = list_evaluations(IndexFolder(birds.indexes[0]), rag="birds")
    assert [row.kind for row in rows] == ["evaluate", "evaluate", "gate"]
    _, tasks = latest_run(prefect_server, "birds.quality", "evaluate birds")
    assert tasks["evaluate birds"] == "COMPLETED"
    shown = artifact(prefect_server, "evaluation-birds")
    image = re.search(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", shown)
    assert image is not None
    drawing = base64.b64decode(image[1]).decode()
    assert drawing.count("<circle") == 2 + 3  # success@5 twice, recall@5 by the gate too
    table = json.loads(artifact(prefect_server, "evaluation-queries-birds"))
    rows_shown = json.loads(table) if isinstance(table, str) else table
    assert {row["id"] for row in rows_shown} == {"fish", "grass"}


def test_an_evaluation_that_misses_a_threshold_fails_its_run(birds: Birds, prefect_server: str):
    birds.run()
    birds.queries(DUCKS, EELS)

    with pytest.raises(EvaluationFailedError) as caught:
        birds.run("quality")

    (assessment,) = caught.value.assessments
    assert assessment.problems == ("success@5 is 0.5000, 0.4000 below the least, 0.9",)
    run, tasks = latest_run(prefect_server, "birds.quality", "evaluate birds")
    assert run["state_type"] == "FAILED"
    assert "success@5 is 0.5000" in run["state"]["message"]
    assert tasks["evaluate birds"] == "COMPLETED"


def test_a_query_that_cannot_be_searched_counts_as_zero(birds: Birds):
    birds.run()
    birds.queries(DUCKS, GEESE, {"id": "more", "query": "A goose", "path": "docs/geese.md"})
    refused = "this one is refused"
    birds.queries(DUCKS, GEESE, {"id": "bad", "query": refused, "path": "docs/geese.md"})
    birds.write("birds.yaml", CONFIG.replace("success@5, min: 0.9", "success@5, min: 0.5"))
    # The last embedding request of the run; the first loads the model.
    birds.runner.faults.inject("status", route="embeddings", status=400, message="no", skip=3)

    outcome = birds.run("quality")

    (assessment,) = outcome.assessments
    (failed,) = assessment.evaluation.failed
    assert failed.query.id == "bad"
    assert set(failed.values.values()) == {0.0}
    assert assessment.evaluation.figures[0].value == pytest.approx(2 / 3)
