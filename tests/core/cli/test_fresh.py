"""``--require-fresh``: what ``run`` and ``batch`` exit with."""

from __future__ import annotations

import pytest

from merganser.agent.answer import Answer, SourceLine
from merganser.batch.journal import BatchReport
from merganser.cli import batch, run

FRESH = SourceLine("a.md", 1, 2, id=1, cited=True)
CHANGED = SourceLine("b.md", 1, 2, id=2, freshness="changed")
GONE = SourceLine("c.md", 1, 2, id=3, cited=True, freshness="gone")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(text="Fish [1].", sources=(FRESH, CHANGED)), 0),  # which it does not cite
        (Answer(text="Fish [1][3].", sources=(FRESH, GONE)), 5),
        (Answer(text="Fish.", sources=(CHANGED,)), 5),  # it cites none, and was given that
        (Answer(text="", sources=(GONE,)), 1),
    ],
)
def test_an_answer_rests_on_what_it_cites(answer: Answer, code: int):
    assert run.exit_code(answer, require_fresh=True) == code
    assert run.exit_code(answer, require_fresh=False) == (1 if code == 1 else 0)


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (BatchReport(2, 2), 0),
        (BatchReport(2, 2, stale=("a",)), 5),
        (BatchReport(2, 1, failed=("b",), stale=("a",)), 3),
    ],
)
def test_failures_of_a_batch_come_before_freshness(report: BatchReport, code: int):
    assert batch.exit_code(report, require_fresh=True) == code
    assert batch.exit_code(report, require_fresh=False) == (3 if code == 3 else 0)
