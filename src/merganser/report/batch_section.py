"""A report's section on a batch: totals, outcomes, metrics, and each question with its answer.

Questions that need a look come first, and can be shown alone: radio buttons and style sheet do
that without a script.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from merganser.batch.journal import tokens_of
from merganser.batch.selection import ANSWERED
from merganser.batch.summary import outcome_of, places_of, reason_of, summarize
from merganser.report.markup import Marked, figure_list, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from merganser.batch.summary import BatchSummary
    from merganser.report.batch_facts import BatchFacts

MOST_ANSWERS = 2000
"""Questions on a page: some megabytes, which a browser still shows at once."""

Kind: TypeAlias = Literal["failed", "unlike", "fine"]

_KINDS: Mapping[Kind, tuple[str, str]] = {
    "failed": ("failed", "bad"),
    "unlike": ("answered, not as expected", "warn"),
    "fine": ("answered", "good"),
}
_OTHERS = "other answers"
"""What is fine, beside answers that are not as expected."""
"""Words and colour of each kind, in the page's order."""


def render_batch(batch: BatchFacts, number: int) -> str:
    """Give the section of one batch.

    Args:
        batch: What is known of it.
        number: Of the section; each page has it once.
    """
    return f"<section>{''.join(_parts(batch, number))}</section>"


def kind_of(row: Mapping[str, Any]) -> Kind:
    """Tell whether a row failed, or answers unlike what was expected, or is fine."""
    if outcome_of(row) != ANSWERED:
        return "failed"
    metrics = cast("dict[str, float]", row.get("metrics") or {})
    return "unlike" if metrics.get("exact") == 0.0 else "fine"


def _parts(batch: BatchFacts, number: int) -> Iterator[str]:
    yield f"<h2>{escape(batch.name)}</h2>"
    yield f'<p class="quiet">{escape(str(batch.answers))}</p>'
    if not batch.rows:
        yield "<p>Nothing has been answered yet.</p>"
        return
    summary = summarize(batch.rows)
    yield figure_list(_figures(batch, summary))
    yield "<h3>Outcomes</h3>"
    rows = [(_outcome(outcome), count) for outcome, count in summary.outcomes.items()]
    yield table("What became of the questions", ("outcome", "questions"), rows)
    if summary.metrics:
        counts = Counter(name for row in batch.rows for name in row["metrics"])
        means = [(name, value, counts[name]) for name, value in summary.metrics.items()]
        caption = "Means, 0 to 1, over the questions that have them; a failed one counts as 0"
        yield table(caption, ("metric", "mean", "questions"), means)
    yield from _questions(batch.rows, number)


def _figures(batch: BatchFacts, summary: BatchSummary) -> Iterator[tuple[str, str, str]]:
    failed = summary.rows - summary.answered
    yield "Questions", f"{summary.rows:,}", f"{batch.unasked:,} not asked" if batch.unasked else ""
    yield "Answered", f"{summary.answered:,}", f"{summary.answered / summary.rows:.1%}"
    yield "Failed", f"{failed:,}", f"{failed / summary.rows:.1%}"
    shared = "equal questions share one" if summary.turns < summary.rows else ""
    yield "Turns", f"{summary.turns:,}", shared
    yield (
        "Time of a turn",
        f"{summary.median_seconds:.1f} s",
        f"95 % in {summary.p95_seconds:.1f} s",
    )
    yield "Time of all", f"{summary.seconds:,.0f} s", "side by side it is less"
    given, made = summary.tokens
    yield "Tokens", f"{given + made:,}", f"{given:,} in, {made:,} out"
    yield "Model", summary.models[0] if summary.models else "none", ", ".join(summary.models[1:])


def _questions(rows: Iterable[Mapping[str, Any]], number: int) -> Iterator[str]:
    order = list(_KINDS)
    kinds: list[tuple[Kind, Mapping[str, Any]]] = [(kind_of(row), row) for row in rows]
    kinds.sort(key=lambda pair: order.index(pair[0]))  # the table's order within each
    yield "<h3>Questions</h3>"
    if (hidden := len(kinds) - MOST_ANSWERS) > 0:
        yield f"<p>The first {MOST_ANSWERS:,}; {hidden:,} more are in the file.</p>"
    yield from _filters(Counter(kind for kind, _ in kinds), number)
    cards = "".join(_card(kind, row) for kind, row in kinds[:MOST_ANSWERS])
    yield f'<div class="answers">{cards}</div>'


def _filters(counts: Mapping[Kind, int], number: int) -> Iterator[str]:
    choices = [("all", "all", sum(counts.values()))]
    for kind, (words, _) in _KINDS.items():
        if counts[kind]:
            is_rest = kind == "fine" and counts["unlike"]
            choices.append((kind, _OTHERS if is_rest else words, counts[kind]))
    for name, words, count in choices:
        mark = f"show-{number}-{name}"
        checked = " checked" if name == "all" else ""
        yield (
            f'<input type="radio" name="show-{number}" id="{mark}" class="only-{name}"{checked}>'
            f'<label for="{mark}">{escape(words)} ({count:,})</label>'
        )


def _card(kind: Kind, row: Mapping[str, Any]) -> str:
    words, tone = _KINDS[kind]
    outcome = outcome_of(row) if kind == "failed" else words
    opened = "" if kind == "fine" else " open"
    return (
        f'<details class="answer {kind}"{opened}><summary>'
        f'<span class="{tone}">{escape(outcome)}</span> '
        f'<span class="quiet">{escape(str(row.get("id")))}</span> '
        f"{escape(str(row.get('question') or ''))}</summary>{''.join(_inside(row))}</details>"
    )


def _inside(row: Mapping[str, Any]) -> Iterator[str]:
    if reason := reason_of(row):
        yield f'<p class="bad text">{escape(reason)}</p>'
    yield f'<p class="text">{escape(str(row.get("answer") or "(no text)").strip())}</p>'
    if (expected := row.get("expected")) is not None:
        given = cast("list[Any]", expected) if isinstance(expected, list) else [expected]
        yield f'<p class="text quiet">expected: {escape(" | ".join(map(str, given)))}</p>'
    yield _places(places_of(row, cited=True), places_of(row, cited=False))
    yield f'<p class="quiet">{escape("; ".join(_remarks(row)))}</p>'


def _places(cited: list[str], others: list[str]) -> str:
    items = [f"<li><code>{escape(place)}</code> cited</li>" for place in cited]
    items += [f'<li class="quiet"><code>{escape(p)}</code> retrieved only</li>' for p in others]
    return f'<ul class="places">{"".join(items)}</ul>' if items else ""


def _remarks(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"{float(row.get('seconds') or 0.0):.1f} s"
    given, made = tokens_of(row)
    yield f"{given:,} + {made:,} tokens"
    metrics = cast("dict[str, float]", row.get("metrics") or {})
    yield from (f"{name} {value:.2f}" for name, value in metrics.items())
    yield from map(str, cast("list[Any]", row.get("notes") or []))


def _outcome(outcome: str) -> Marked:
    return Marked(outcome, "good" if outcome == ANSWERED else "bad")
