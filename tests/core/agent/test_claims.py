"""What stands in a passage and what does not; each case is a kind of mistake that models make."""

import pytest

from merganser.agent.claims import Asked, check_claims, refuse
from merganser.agent.evidence import Evidence
from merganser.agent.verdict import judge_text

PASSAGE = """# Cache settings

The cache keeps entries for 30 seconds by default. It was added by Maria Keller on 5 March 2021.
The internal interface is the default for workers.

- `max_entries` limits how many entries the cache holds: 500.
- Expired entries are not removed until the next read.

Alice reports to Robert about the cache.
"""
SHOWN = [
    Evidence("docs/cache.md", 1, 9, PASSAGE, id=1),
    Evidence("docs/queue.md", 1, 1, "The queue writes to disk.", id=2),
]


def holds(question: str, answer: str) -> bool:
    claims = check_claims(answer, Asked.of(question, SHOWN), SHOWN)
    return bool(claims) and all(claim.holds for claim in claims)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How long does the cache keep entries?", "The cache keeps entries for 30 seconds [1]."),
        ("How long does the cache keep entries?", "By default, entries are kept for 30 s [1]."),
        ("Who added the cache?", "It was added by Maria Keller [1]."),
        ("When was the cache added?", "The cache was added on 2021-03-05."),
        ("What limits the entries of the cache?", "`max_entries` limits the entries to 500."),
        ("Are expired entries of the cache removed?", "Expired entries are not removed."),
        ("What is the default interface for workers?", "The internal interface is the default."),
    ],
)
def test_what_a_passage_says_holds(question: str, answer: str):
    assert holds(question, answer)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        # another number, unit, date, name, identifier
        ("How long does the cache keep entries?", "The cache keeps entries for 60 seconds [1]."),
        ("How long does the cache keep entries?", "The cache keeps entries for 30 minutes [1]."),
        ("When was the cache added?", "The cache was added on 6 March 2021."),
        ("Who added the cache?", "The cache was added by Peter Keller."),
        (
            "What limits the entries of the cache?",
            "`min_entries` limits how many entries it holds.",
        ),
        # the contrary
        ("Are expired entries of the cache removed?", "Expired entries are removed."),
        ("How long does the cache keep entries?", "The cache never keeps entries for 30 seconds."),
        # words that only begin alike
        ("What is the default of workers?", "The international interest interval is defaulted."),
        # the same words the other way round
        ("Who reports about the cache?", "Robert reports to Alice about the cache."),
        # a source that does not say it, and the question said again
        ("How long does the cache keep entries?", "The cache keeps entries for 30 seconds [2]."),
        ("How long does the cache keep entries?", "The cache keeps entries."),
        # a passage's own words to a question that it does not answer
        ("How long does the Redis server keep sessions?", "Entries are kept for 30 seconds."),
        ("Which colour has the logo of the vendor?", "The cache keeps entries for 30 seconds."),
    ],
)
def test_what_no_passage_says_or_nobody_asked_does_not_hold(question: str, answer: str):
    assert not holds(question, answer)


@pytest.mark.parametrize(
    ("answer", "finish", "outcome"),
    [
        ("The cache keeps entries for 30 seconds [1].", "stop", "answered"),
        ("It keeps entries for 30 seconds [1]. Pelicans sing opera.", "stop", "partly"),
        ("It keeps entries for 45 seconds.", "stop", "quoted"),
        ("The cache keeps entries by default.", "stop", "quoted"),
        ("It keeps entries for 30 seconds and", "length", "quoted"),
        ("Question: how long? It keeps entries for 30 seconds.", "stop", "quoted"),
        ("The sources do not say how long.", "stop", "no answer"),
        ("", "stop", "quoted"),
    ],
)
def test_the_outcome_is_decided_by_the_claims(answer: str, finish: str, outcome: str):
    question = "How long does the cache keep entries?"

    verdict = judge_text(answer, question, SHOWN, finish_reason=finish)

    assert verdict.outcome == outcome
    if outcome == "quoted":
        assert "30 seconds" in verdict.text
        assert "docs/cache.md:" in verdict.text


def test_a_quotation_names_the_lines_that_it_stands_in():
    before, after = ("".join(f"{w} {n}.\n\n" for n in "pqrstuv") for w in ("Alpha", "Omega"))
    text = f"{before}The cache keeps entries for 30 seconds.\n\n{after}"
    shown = [Evidence("a.md", 11, 39, text, id=4)]

    verdict = judge_text("Cake.", "How long does the cache keep entries?", shown)

    first, last = (text.splitlines().index(line) + 11 for line in ("Alpha v.", "Omega p."))
    assert f"a.md:{first}-{last} [4]" in verdict.text
    quoted = [line[2:] for line in verdict.text.splitlines() if line.startswith("> ")]
    assert quoted == ["Alpha v.", "The cache keeps entries for 30 seconds.", "Omega p."]


def test_an_answer_where_nothing_bears_on_the_question_is_unsupported_or_none():
    question = "Who designed the logo of Postgres?"

    assert judge_text("Peter Smith did.", question, SHOWN).outcome == "unsupported"
    assert judge_text("", question, SHOWN).outcome == "no answer"


def test_a_loop_is_no_answer():
    assert refuse("the cache keeps the cache " * 10) == "it runs in a loop"
