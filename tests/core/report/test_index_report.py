"""The report of an index, as a browser without network and scripts sees it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from merganser.cli import EXIT_FAILED, main
from merganser.documents.files import read_file
from merganser.store.evaluations import EvaluationRow, MetricRow, record_evaluation
from merganser.store.folder import IndexFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from playwright.sync_api import Page

    from tests.core.conftest import Corpus

HOSTILE = "<img src=x onerror=alert(1)>&.md"
WORST = '</td><script>document.title="owned"</script>'


def evaluation(number: int, value: float, *, passed: bool) -> EvaluationRow:
    began = datetime(2026, 5, 1 + number, 3, 0, tzinfo=UTC)
    problem = "" if passed else "recall@5 is 0.4, at least 0.5 is required"
    return EvaluationRow(
        evaluation_id=f"e{number}",
        kind="evaluate",
        flow="quality",
        rag="code",
        started=began,
        finished=began + timedelta(seconds=2),
        snapshots="code=1@run",
        queries_file="/evals/code.jsonl",
        queries_fingerprint="f0",
        queries=12,
        failed=0,
        stale=0,
        passed=passed,
        baseline="",
        metrics=(MetricRow("recall@5", value, 0.1, 0.9, min=0.5, problem=problem),),
    )


@pytest.fixture
def eventful(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """An index with a past: two runs, a failed and a skipped file, two evaluations."""
    corpus.write("docs/guide.md", "guide " * 400, seconds_ago=3600)
    corpus.write("docs/old.md", "old " * 200, seconds_ago=400 * 86400)
    corpus.write(f"src/{HOSTILE}", "hostile " * 100)
    for number in range(9):
        corpus.write(f"docs/small/{number}.md", f"small {number}")
    corpus.write("src/picture.md", "\0\1")
    corpus.index()
    corpus.write("src/new.md", "new " * 150)
    target = corpus.write("docs/guide.md", "changed", seconds_ago=5)

    def refuse(path: str | Path, max_bytes: int) -> bytes:
        if Path(path) == target:
            raise PermissionError(13, WORST)
        return read_file(path, max_bytes)

    monkeypatch.setattr("merganser.documents.reading.read_file", refuse)
    assert corpus.index().status == "degraded"
    monkeypatch.undo()
    for number, value in enumerate((0.7, 0.4)):
        row = evaluation(number, value, passed=value >= 0.5)
        record_evaluation(IndexFolder(corpus.folder), row)
    return corpus


def test_a_browser_shows_it_all_without_network_or_script(
    eventful: Corpus,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    open_page: Callable[[], AbstractContextManager[Page]],
):
    out = tmp_path / "out.html"
    with pytest.raises(SystemExit) as ended:
        main(["report", str(eventful.folder), "-o", str(out), "--json"])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (ended.value.code, told["report"]) == (0, str(out))
    assert (told["indexes"][0]["snapshot"], told["indexes"][0]["evaluations"]) == (2, 2)

    asked: list[str] = []
    complaints: list[str] = []
    with open_page() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(out.as_uri())
        title, text = page.title(), page.locator("body").inner_text()
        cells: list[list[Any]] = page.locator(".map .cell").evaluate_all(READ_CELLS)
        runs: list[list[str]] = page.locator("table").evaluate_all(READ_ROWS)
        chart = page.locator(".trend svg title").text_content() or ""

    assert (asked, complaints) == ([out.as_uri()], [])
    assert title == "Index report: code"
    sizes = {path: (area, fill) for path, area, fill in cells}
    assert {"docs/guide.md", "docs/old.md", "src/new.md", f"src/{HOSTILE}"} <= set(sizes)
    # The failed file kept its old version of 2,400 bytes, beside one of 800.
    assert sizes["docs/guide.md"][0] == pytest.approx(3 * sizes["docs/old.md"][0], rel=0.02)
    assert sizes["docs/guide.md"][1] != sizes["docs/old.md"][1]
    assert "Served snapshot" in text
    assert "picture.md" not in sizes
    by_head = {tuple(rows[0]): rows[1:] for rows in runs}
    history = next(rows for head, rows in by_head.items() if "embedded" in head)
    assert [row[1:4] for row in history] == [["degraded", "2", "1"], ["published", "1", "12"]]
    failed = next(rows for head, rows in by_head.items() if "detail" in head and len(head) == 4)
    assert [row[1:] for row in failed] == [["docs/guide.md", "unreadable", WORST]]
    (left_out,) = next(rows for head, rows in by_head.items() if "how to take them in" in head)
    assert (left_out[:3], left_out[-1]) == (["binary", "1", "0"], "src/picture.md")
    quality = next(rows for head, rows in by_head.items() if "recall@5" in head)
    assert [row[-1] for row in quality] == ["0.400", "0.700"]
    assert "not reached: recall@5 is 0.4" in quality[0][3]
    assert chart == "Retrieval quality of code, 12 queries of code.jsonl"


READ_CELLS = """cells => cells.map(cell => {
    const box = cell.querySelector("rect").getBoundingClientRect();
    const title = cell.querySelector("title").textContent;
    const path = title.slice(0, title.lastIndexOf(": "));
    return [path, box.width * box.height, cell.querySelector("rect").getAttribute("fill")];
})"""
READ_ROWS = """tables => tables.map(table => table.rows).map(
    rows => [...rows].map(row => [...row.cells].map(cell => cell.textContent))
)"""


def test_nothing_to_report_is_an_error_that_says_what_to_do(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    corpus.root.joinpath("empty").mkdir()

    with pytest.raises(SystemExit) as ended:
        main(["report", str(corpus.root / "empty"), "-o", str(tmp_path / "o.html")])

    assert ended.value.code == EXIT_FAILED
    assert "`merganser index` does it" in capsys.readouterr().err
    assert not (tmp_path / "o.html").exists()


def test_a_config_is_reported_with_all_its_indexes(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    corpus.write("docs/guide.md", "guide")
    corpus.index()
    config = corpus.root / "birds.yaml"
    rag = "{docs: [docs], strategies: [{type: bm25, database: %s}]}"
    config.write_text(
        f"rag:\n  code: {rag % '.merganser/code'}\n  more: {rag % '.merganser/more'}\n"
    )

    with pytest.raises(SystemExit) as ended:
        main(["report", str(config), "-o", str(tmp_path / "o.html"), "--json"])

    found = json.loads(capsys.readouterr().out)["indexes"]
    assert ended.value.code == 0
    assert [(one["name"], one["snapshot"], one["files"]) for one in found] == [
        ("code", 1, 1),
        ("more", None, 0),
    ]
    page = (tmp_path / "o.html").read_text()
    assert "Nothing has been published yet." in page
    assert page.count("<section>") == 2
