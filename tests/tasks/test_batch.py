from merganser.batch.journal import BatchReport
from merganser.tasks.batch import batch_markdown

ROWS = [
    {"id": "a", "question": "Why?", "outcome": "answered"},
    {"id": "b", "question": "How | \nwhy?", "outcome": "error", "error": "no\nserver"},
    {
        "id": "c",
        "question": "Who?",
        "outcome": "failed: cites unknown source",
        "invalid_citations": ["[99]"],
    },
]


def test_a_batch_shows_its_outcomes_and_why_questions_failed():
    text = batch_markdown("faq", BatchReport(3, 1, failed=("b", "c")), ROWS)

    outcomes = ["| answered | 1 |", "| error | 1 |", "| failed: cites unknown source | 1 |"]
    failed = [
        r"- `b` How \| why?: error: no server",
        "- `c` Who?: failed: cites unknown source: [99]",
    ]
    assert outcomes == text.splitlines()[-8:-5]
    assert failed == text.splitlines()[-2:]
