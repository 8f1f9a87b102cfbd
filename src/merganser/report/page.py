"""The report's page: the templates, filled with facts about indexes and batches."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined

from merganser.batch.answer_rows import (
    ANSWERED,
    outcome_of,
    places_of,
    reason_of,
    summarize,
    tokens_of,
)
from merganser.documents.skipping import group_skipped
from merganser.evaluation.chart import draw_trend
from merganser.humanize import show_age, show_bytes
from merganser.indexing.run_report import contents_of
from merganser.planning.contents import describe_contents
from merganser.report.treemap import SHADES, Box, build_tree, map_nodes, shade
from merganser.store.folder import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from merganser.report.facts import BatchFacts, IndexFacts
    from merganser.store.evaluations import EvaluationRow

    Kind: TypeAlias = Literal["failed", "unlike", "fine"]

_MAP = Box(0, 0, 1040, 520)
_ANSWERS = 2000  # some megabytes, which a browser still shows at once
_KINDS: tuple[Kind, ...] = ("failed", "unlike", "fine")  # what needs a look comes first


def write_page(
    path: Path,
    *,
    title: str,
    indexes: Sequence[IndexFacts] = (),
    batches: Sequence[BatchFacts] = (),
    now: datetime | None = None,
) -> None:
    """Write the report; whoever reads the file meets the old report or the new one.

    Args:
        path: The file.
        title: The page's title.
        indexes: In the page's order.
        batches: In the page's order, after the indexes.
        now: For ages, with time zone; the present by default.

    Raises:
        OSError: It cannot be written.
    """
    now = now or datetime.now(UTC)

    def seconds_since(moment_ns: int) -> float:
        return now.timestamp() - moment_ns / 1e9

    functions = (outcome_of, places_of, reason_of, seconds_since, shade, show_age, tokens_of)
    text = (
        _templates()
        .get_template("page.html")
        .render(
            {one.__name__: one for one in functions},
            title=title,
            now=now,
            indexes=[_index_parts(one) for one in indexes],
            batches=[_batch_parts(one) for one in batches],
        )
    )
    # Names of files and answers of models may hold bytes that are no text.
    replace_file(path, text.encode("utf-8", "backslashreplace"), is_durable=False)


def _templates() -> Environment:
    """Return the templates, which escape every value."""
    found = Environment(
        loader=PackageLoader("merganser.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = {"count": "{:,}".format, "minute": _show_minute, "size": show_bytes}
    found.filters.update(filters)
    return found


def _show_minute(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def _index_parts(index: IndexFacts) -> dict[str, Any]:
    """Return what the template of an index shows beside the facts themselves."""
    top = build_tree(index.files)
    return {
        "facts": index,
        "size_bytes": sum(file.size_bytes for file in index.files),
        "top": top,
        "map": _MAP,
        "cells": list(map_nodes(top, _MAP)) if top.files else [],
        "shades": SHADES,
        "began": {run.run_id: run.started for run in index.runs},
        "contents": list(describe_contents(contents_of(index.files, index.redactions))),
        "reasons": group_skipped(index.skipped, index.new_skips),
        "trends": [_trend_parts(trend) for trend in index.trends],
    }


def _trend_parts(trend: Sequence[EvaluationRow]) -> dict[str, Any]:
    last = trend[-1]
    queries = last.queries_file.replace("\\", "/").rpartition("/")[2]
    name = f"{last.rag}, {last.queries} queries of {queries}"
    return {
        "name": name,
        "chart": draw_trend(trend, f"Retrieval quality of {name}"),
        "metrics": [row.metric for row in last.metrics],
        "rows": list(reversed(trend)),
    }


def _batch_parts(batch: BatchFacts) -> dict[str, Any]:
    """Return what the template of a batch shows beside the facts themselves."""
    by_kind: dict[Kind, list[Mapping[str, Any]]] = {kind: [] for kind in _KINDS}
    for row in batch.rows:
        by_kind[_kind_of(row)].append(row)
    answers = [(kind, row) for kind, rows in by_kind.items() for row in rows]
    return {
        "facts": batch,
        "summary": summarize(batch.rows),
        "metric_counts": Counter(name for row in batch.rows for name in row["metrics"]),
        "kind_counts": {kind: len(rows) for kind, rows in by_kind.items()},
        "answers": answers[:_ANSWERS],
        "hidden": max(len(answers) - _ANSWERS, 0),
    }


def _kind_of(row: Mapping[str, Any]) -> Kind:
    """Return whether a row failed, answers unlike what was expected, or is fine."""
    if outcome_of(row) != ANSWERED:
        return "failed"
    return "unlike" if row["metrics"].get("exact") == 0.0 else "fine"
