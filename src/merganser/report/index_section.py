"""A report's section on an index: figures, map, runs, failed and skipped files, quality."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from html import escape
from itertools import islice
from typing import TYPE_CHECKING

from merganser.evaluation.chart import draw_trend
from merganser.humanize import show_age, show_bytes
from merganser.report.markup import Marked, figure_list, folded, show_minute, show_time, table
from merganser.report.picture import draw_legend, draw_map
from merganser.report.treemap import build_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from merganser.report.facts import IndexFacts
    from merganser.report.treemap import Node
    from merganser.store import EvaluationRow, RunRow, SnapshotInfo

_ROWS = 20
_SKIPPED_ROWS = 500
_CHARTS = 4
_TONES = {"published": "good", "unchanged": "good", "degraded": "warn", "failed": "bad"}


def render_index(index: IndexFacts, now: datetime) -> str:
    """Give the section of one index.

    Args:
        index: What is known of it.
        now: For ages, with time zone.
    """
    return f"<section>{''.join(_parts(index, now))}</section>"


def _parts(index: IndexFacts, now: datetime) -> Iterator[str]:
    yield f"<h2>{escape(index.name)}</h2>"
    yield f'<p class="quiet">{escape(str(index.folder))}</p>'
    served = index.served
    if served is None:
        yield "<p>Nothing has been published yet.</p>"
    else:
        yield figure_list(_figures(index, served, now))
        yield from _map(index, now)
    if index.runs:
        yield "<h3>Runs</h3>"
        heads = (
            *("began (UTC)", "outcome", "snapshot", "added", "changed", "moved", "removed"),
            *("failed", "skipped", "embedded", "reused", "seconds"),
        )
        caption = "The latest runs, newest first; counts are files and texts"
        yield table(caption, heads, map(_run_row, index.runs))
        errors = [(show_minute(run.started), run.error) for run in index.runs if run.error]
        if errors:
            yield table("What ended runs", ("run began (UTC)", "error"), errors)
    yield from _files(index)
    yield from _quality(index)


def _figures(
    index: IndexFacts, served: SnapshotInfo, now: datetime
) -> Iterator[tuple[str, str, str]]:
    created = datetime.fromisoformat(served.created)
    created = created if created.tzinfo else created.replace(tzinfo=UTC)
    kept = ", ".join(str(one.generation) for one in index.snapshots if not one.served)
    yield "Served snapshot", str(served.generation), f"kept too: {kept}" if kept else ""
    yield "Age", show_age((now - created).total_seconds()), show_time(created)
    size = sum(source.size_bytes for source in index.sources)
    yield "Sources", f"{len(index.sources):,}", show_bytes(size)
    yield (
        "Chunks",
        f"{served.chunks:,}",
        f"in {served.segments} " + ("segments" if served.segments > 1 else "segment"),
    )
    yield "On disk", show_bytes(served.size_bytes), ""
    yield "Embedding model", served.model_name or "none", "" if served.model_name else "words only"
    yield "Skipped", f"{len(index.skipped):,}", "files, for a stated reason"
    if index.runs:
        last = index.runs[0]
        texts = last.texts_embedded + last.texts_reused
        reused = f"{last.texts_reused / texts:.0%} of texts reused" if texts else ""
        yield "Last run", last.status, reused


def _map(index: IndexFacts, now: datetime) -> Iterator[str]:
    top = build_tree(index.sources)
    if not top.files:
        return
    within = f" of {top.path}" if top.path else ""
    yield f"<h3>Map{escape(within)}</h3>"
    yield f"<figure>{draw_map(top, now)}<figcaption>{draw_legend()}</figcaption></figure>"
    rows = [_source_row(node, now) for node in islice(top.largest_first(), _ROWS)]
    more = f" ({_ROWS} largest of {len(top.below):,})" if len(top.below) > _ROWS else ""
    heads = ("source", "files", "bytes", "chunks", "last change")
    content = table(f"Folders and files{within}, largest first{more}", heads, rows)
    yield folded("The map as a table", content)


def _source_row(node: Node, now: datetime) -> tuple[object, ...]:
    changed = f"{show_age(now.timestamp() - node.newest_ns / 1e9)} ago"
    name = f"{node.name}/" if node.below else node.name
    return name, node.files, node.size_bytes, node.chunks, changed


def _run_row(run: RunRow) -> tuple[object, ...]:
    return (
        show_minute(run.started),
        Marked(run.status, _TONES.get(run.status, "warn")),
        "" if run.generation is None else run.generation,
        *(run.added, run.changed, run.moved, run.removed),
        Marked(f"{run.failed:,}", "bad") if run.failed else 0,
        *(run.skipped, run.texts_embedded, run.texts_reused),
        f"{(run.finished - run.started).total_seconds():.1f}",
    )


def _files(index: IndexFacts) -> Iterator[str]:
    if index.failures:
        began = {run.run_id: show_minute(run.started) for run in index.runs}
        rows = [(began[one.run_id], one.path, one.reason, one.detail) for one in index.failures]
        yield "<h3>Failed files</h3>"
        heads = ("run began (UTC)", "file", "reason", "detail")
        yield table("Files that a run could not index; old versions stay", heads, rows)
    if index.skipped:
        reasons = Counter(row.reason for row in index.skipped)
        yield "<h3>Skipped files</h3>"
        counts = [(reason, count) for reason, count in reasons.most_common()]
        yield table("Why files are not in the served snapshot", ("reason", "files"), counts)
        rows = [(row.path, row.reason, row.detail) for row in index.skipped[:_SKIPPED_ROWS]]
        hidden = len(index.skipped) - len(rows)
        more = f" (the first {_SKIPPED_ROWS}; {hidden:,} more in the index)" if hidden else ""
        content = table(f"Skipped files{more}", ("file", "reason", "detail"), rows)
        yield folded("Each of them", content)


def _quality(index: IndexFacts) -> Iterator[str]:
    if not index.trends:
        return
    yield "<h3>Retrieval quality</h3>"
    for trend in index.trends[:_CHARTS]:
        last = trend[-1]
        queries = last.queries_file.replace("\\", "/").rpartition("/")[2]
        name = f"{last.rag}, {last.queries} queries of {queries}"
        yield f'<figure class="trend">{draw_trend(trend, f"Retrieval quality of {name}")}</figure>'
        metrics = [row.metric for row in last.metrics]
        yield table(
            f"{name}; a hollow point is an evaluation that did not reach what is required",
            ("began (UTC)", "kind", "snapshots", "required", *metrics),
            [_evaluation_row(row, metrics) for row in list(reversed(trend))[:_ROWS]],
        )


def _evaluation_row(row: EvaluationRow, metrics: Sequence[str]) -> tuple[object, ...]:
    problems = "; ".join(metric.problem for metric in row.metrics if metric.problem)
    state = Marked("reached", "good") if row.passed else Marked(f"not reached: {problems}", "bad")
    snapshots = ", ".join(part.partition("@")[0] for part in row.snapshots.split(", "))
    values = [row.values.get(metric, "") for metric in metrics]
    return show_minute(row.started), row.kind, snapshots, state, *values
