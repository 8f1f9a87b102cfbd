from merganser.batch.journal import BatchReport
from merganser.tasks.batch import batch_markdown

LINK = "https://codeberg.org/org/repo/src/commit/5fdac2d/a.md#L1-L3"

ROWS = [
    {
        "id": "a",
        "question": "Why?",
        "answer": "Because [1].\n![x](http://elsewhere/) <b>",
        "outcome": "answered",
        "sources": [{"path": "a.md", "lines": "1-3", "cited": True, "url": LINK}],
        "seconds": 1.25,
    },
    {"id": "b", "question": "How | \nwhy?", "outcome": "error", "error": "no\nserver"},
    {
        "id": "c",
        "question": "Who?",
        "answer": "It [99].",
        "outcome": "failed: cites unknown source",
        "invalid_citations": ["[99]"],
    },
]

SHOWN = r"""
### Outcomes

| outcome | questions |
| --- | --- |
| answered | 1 |
| error | 1 |
| failed: cites unknown source | 1 |

### Failed


**b** How &#124; why?

> (no text)

no source · error: no server · 0.0 s


**c** Who?

> It [99].

no source · failed: cites unknown source: [99] · 0.0 s

### Answered


**a** Why?

> Because [1].
> !&#91;x](http://elsewhere/) &lt;b>

`a.md:1-3 https://codeberg.org/org/repo/src/commit/5fdac2d/a.md#L1-L3` · answered · 1.2 s"""


def test_a_batch_shows_its_outcomes_and_answers_failed_ones_first():
    text = batch_markdown("faq", BatchReport(3, 1, failed=("b", "c")), ROWS)

    assert text.endswith(SHOWN)
