"""``merganser report``: indexes and batches as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merganser.cli.options import data_table, indexes_by_name, json_option, print_json
from merganser.errors import MerganserError, NoSnapshotError

if TYPE_CHECKING:
    from merganser.report.facts import BatchFacts, IndexFacts

_CONFIG_ENDINGS = (".yaml", ".yml")


@click.command()
@click.argument("what", metavar="FILE_FOLDER_OR_ANSWERS", type=click.Path())
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False),
    default="report.html",
    show_default=True,
    help="The page.",
)
@json_option
def command(what: str, *, output: str, as_json: bool) -> int:
    """Write a report of a config, an index folder, or the answers of a batch.

    Of an index the page has the figures, a map of the sources, the latest runs, what failed and
    was skipped, and retrieval quality over time. Of a batch it has the outcomes, time, tokens and
    metrics, and each question with its answer and citations, failed ones first. Of a config it has
    all of its indexes and batches. It needs no server and no network.
    """
    from merganser.report.page import write_page

    title, indexes, batches = _read(what)
    page = Path(output).absolute()
    try:
        write_page(page, title=title, indexes=indexes, batches=batches)
    except OSError as error:
        raise MerganserError(f"cannot write {str(page)!r}: {error.strerror}") from error
    if as_json:
        print_json(
            {
                "report": page,
                "indexes": [_index_json(one) for one in indexes],
                "batches": [_batch_json(one) for one in batches],
            }
        )
    else:
        click.echo(page)
    return 0


def _read(what: str) -> tuple[str, list[IndexFacts], list[BatchFacts]]:
    """Return the page's title and what it is about.

    Raises:
        NoSnapshotError: There is nothing to report yet.
        StoreError: What is there cannot be read.
        SpecErrors: The config is wrong.
    """
    from merganser.report.facts import read_answers, read_index

    place = Path(what)
    if place.is_dir():
        facts = read_index(place.resolve().name, place)
        _check_some([facts], [])
        return f"Index report: {facts.name}", [facts], []
    if place.suffix in _CONFIG_ENDINGS:
        indexes, batches = _read_config(what)
        return f"Report: {place.stem}", indexes, batches
    answers = read_answers(data_table(what, "FILE_FOLDER_OR_ANSWERS"))
    return f"Batch report: {answers.name}", [], [answers]


def _read_config(file: str) -> tuple[list[IndexFacts], list[BatchFacts]]:
    from merganser.config.flow_definition import BatchFlow, resolve_flows
    from merganser.config.load import load_config
    from merganser.report.facts import read_batch, read_index

    config = load_config(file)
    indexes = [read_index(name, one.folder) for name, one in indexes_by_name(config).items()]
    batches = [read_batch(one) for one in resolve_flows(config) if isinstance(one, BatchFlow)]
    if not indexes and not batches:
        raise NoSnapshotError(f"{file} has no rag and no batch flow, so nothing to report on")
    _check_some(indexes, batches)
    return indexes, batches


def _check_some(indexes: list[IndexFacts], batches: list[BatchFacts]) -> None:
    """Refuse a report of nothing; the message says which command makes something."""
    if any(one.snapshots or one.runs for one in indexes) or any(one.rows for one in batches):
        return
    places: list[object] = [one.folder for one in indexes] or [one.answers for one in batches]
    where = ", ".join(repr(str(place)) for place in places)
    what, command = ("indexed", "index") if indexes else ("answered", "batch")
    raise NoSnapshotError(f"nothing has been {what} in {where} yet; `merganser {command}` does it")


def _index_json(facts: IndexFacts) -> dict[str, Any]:
    return {
        "name": facts.name,
        "folder": facts.folder,
        "snapshot": facts.served.generation if facts.served else None,
        "files": len(facts.files),
        "runs": len(facts.runs),
        "evaluations": sum(map(len, facts.trends)),
    }


def _batch_json(facts: BatchFacts) -> dict[str, Any]:
    from merganser.batch.answer_rows import summarize

    summary = summarize(facts.rows)
    return {
        "name": facts.name,
        "answers": str(facts.answers),
        "questions": summary.rows,
        "unasked": facts.unasked,
        "outcomes": dict(summary.outcomes),
        "tokens": {"input": summary.tokens[0], "output": summary.tokens[1]},
        "metrics": dict(summary.metrics),
    }
