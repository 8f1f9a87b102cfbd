"""The report of a batch, as a browser without network and scripts sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from merganser.batch.answer_rows import summarize
from merganser.cli import EXIT_FAILED, main

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from playwright.sync_api import Page

LINK = 'https://github.com/org/repo/blob/5fdac2d/a"><script>.md#L3-L9'
HOSTILE = '</p><script>document.title="owned"</script>'


def row(name: str, **values: Any) -> dict[str, Any]:
    """Return a row as ``merganser batch`` writes it."""
    return {
        "id": name,
        "question": f"Question {name}?",
        "key": name,
        "answer": f"Answer {name} [1]",
        "outcome": "answered",
        "error": None,
        "sources": [
            {"path": f"docs/{name}.md", "lines": "3-9", "cited": True, "url": LINK},
            {"path": "docs/other.md", "lines": "1-2", "cited": False, "url": "javascript:alert(1)"},
        ],
        "invalid_citations": [],
        "tokens": {"input": 100, "output": 20},
        "seconds": 2.0,
        "model": "ai/smollm2",
        "metrics": {"citations": 1.0},
        **values,
    }


ROWS = [
    row("fine"),
    row("same", key="fine"),
    row("unlike", expected="Fish", metrics={"citations": 1.0, "exact": 0.0, "token_f1": 0.25}),
    row("broken", answer=None, outcome="error", error=HOSTILE, sources=[], tokens=None, seconds=9),
    row("made-up", outcome="failed: cites unknown source", invalid_citations=["[99]"]),
]


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in ROWS))
    return path


def report(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, Any]:
    with pytest.raises(SystemExit) as ended:
        main(["report", *words])
    told = capsys.readouterr()
    return ended.value.code, told


def test_equal_questions_cost_once_and_a_failure_of_the_whole_is_in_the_figures():
    found = summarize(ROWS)

    assert (found.rows, found.turns, found.answered) == (5, 4, 3)
    assert list(found.outcomes) == ["answered", "error", "failed: cites unknown source"]
    assert (found.tokens, found.seconds) == ((300, 60), 15.0)
    assert (found.median_seconds, found.p95_seconds) == (2.0, 9.0)
    assert found.metrics["exact"] == 0.0
    assert summarize([]).rows == 0


def test_a_browser_shows_the_answers_failed_ones_first_and_alone(
    answers: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    open_page: Callable[[], AbstractContextManager[Page]],
):
    out = tmp_path / "out.html"
    code, told = report(capsys, str(answers), "-o", str(out), "--json")
    (batch,) = json.loads(told.out)["batches"]
    assert (code, batch["questions"], batch["outcomes"]["answered"]) == (0, 5, 3)

    asked: list[str] = []
    complaints: list[str] = []
    with open_page() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(out.as_uri())
        title, text = page.title(), page.locator("body").inner_text()
        cards = page.locator(".answer").all_text_contents()
        links = {one.get_attribute("href") for one in page.locator("a").all()}
        page.get_by_label("answered, not as expected (1)").check()
        shown = page.locator(".answer:visible summary").all_text_contents()

    assert (asked, complaints) == ([out.as_uri()], [])
    assert title == "Batch report: answers"
    assert [card.split()[0] for card in cards] == [
        "error",
        "failed:",
        *["answered,"],
        *["answered"] * 2,
    ]
    assert HOSTILE in cards[0]
    assert (links, LINK in cards[1]) == ({LINK}, True)
    assert "[99]" in cards[1]
    assert "docs/made-up.md:3-9 cited" in cards[1]
    assert "docs/other.md:1-2 retrieved only" in cards[1]
    assert "expected: Fish" in cards[2]
    assert "token_f1 0.25" in cards[2]
    assert "Answer same [1]" in cards[4]
    assert [line.split(maxsplit=4)[-1] for line in shown] == ["unlike Question unlike?"]
    for figure in ("Tokens", "300 in, 60 out", "95 % in 9.0 s", "ai/smollm2", "60.0%"):
        assert figure in text
    assert "failed: cites unknown source" in text


CONFIG = """
agents:
  root: {model: dmr/ai/smollm2}
flows:
  faq: {type: batch, agent: root, input: ./questions.jsonl, output: ./answers.jsonl}
"""


def test_a_config_is_reported_with_its_batches_and_what_is_not_asked_yet(
    answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "birds.yaml").write_text(CONFIG)
    (tmp_path / "questions.jsonl").write_text(
        '{"id": "fine", "question": "?"}\n{"question": "!"}\n'
    )
    out = tmp_path / "out.html"
    # A run under way has one more, without metrics.
    late = row("late", metrics=None, expected="Answer late")
    answers.with_name("answers.jsonl.partial").write_text(json.dumps(late))

    code, told = report(capsys, str(tmp_path / "birds.yaml"), "-o", str(out), "--json")

    (batch,) = json.loads(told.out)["batches"]
    assert (code, batch["name"], batch["questions"], batch["unasked"]) == (0, "faq", 6, 1)
    assert batch["metrics"]["exact"] == 0.5
    assert "1 not asked" in out.read_text()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("none.jsonl", None, (EXIT_FAILED, "`merganser batch` writes them")),
        ("other.jsonl", '{"question": "Why?"}', (EXIT_FAILED, "no answers of a batch")),
        ("birds.yaml", CONFIG, (EXIT_FAILED, "`merganser batch` does it")),
        ("answers.txt", "", (2, "must be a .jsonl, .csv or .parquet file")),
    ],
)
def test_nothing_to_report_is_an_error_that_says_what_to_do(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str | None,
    expected: tuple[int, str],
):
    if content is not None:
        (tmp_path / name).write_text(content)

    code, told = report(capsys, str(tmp_path / name), "-o", str(tmp_path / "out.html"))

    assert (code, expected[1] in told.err) == (expected[0], True)
    assert not (tmp_path / "out.html").exists()
