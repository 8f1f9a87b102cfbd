"""``merganser report``: an index as an HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from merganser.cli.common import json_option, print_json
from merganser.errors import MerganserError, NoSnapshotError


@click.command()
@click.argument("index", metavar="FILE_OR_FOLDER", type=click.Path())
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False),
    default="report.html",
    show_default=True,
    help="The page.",
)
@json_option
def command(index: str, *, output: str, as_json: bool) -> int:
    """Write a report of the indexes of a config, or of an index folder.

    The page has the figures, a map of the sources, the latest runs, what failed and was skipped,
    and retrieval quality over time. It needs no server and no network.
    """
    from merganser.report import read_facts, write_page

    place = Path(index)
    folders = {_name_of(place): place} if place.is_dir() else _folders_of(index)
    facts = [read_facts(name, folder) for name, folder in folders.items()]
    if not any(one.snapshots or one.runs for one in facts):
        where = ", ".join(repr(str(one.folder)) for one in facts)
        raise NoSnapshotError(f"nothing has been indexed in {where} yet; `merganser index` does it")
    page = Path(output).absolute()
    try:
        write_page(facts, page, title=f"Index report: {_name_of(place)}")
    except OSError as error:
        raise MerganserError(f"cannot write {str(page)!r}: {error.strerror}") from error
    if as_json:
        print_json(
            {
                "report": page,
                "indexes": [
                    {
                        "name": one.name,
                        "folder": one.folder,
                        "snapshot": one.served.generation if one.served else None,
                        "files": len(one.sources),
                        "runs": len(one.runs),
                        "evaluations": sum(map(len, one.trends)),
                    }
                    for one in facts
                ],
            }
        )
    else:
        click.echo(page)
    return 0


def _name_of(place: Path) -> str:
    return place.resolve().name if place.is_dir() else place.stem


def _folders_of(file: str) -> dict[str, Path]:
    from merganser.load import load_config
    from merganser.resolve import resolve_rag

    config = load_config(file)
    indexes = {i.name: i for name in config.spec.rag for i in resolve_rag(config, name).indexes}
    if not indexes:
        raise NoSnapshotError(f"{file} has no rag, so no index to report on")
    return {name: definition.folder for name, definition in indexes.items()}
