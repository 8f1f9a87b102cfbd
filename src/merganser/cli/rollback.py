"""``merganser rollback``: serve an earlier snapshot again."""

from __future__ import annotations

import click

from merganser.cli.options import file_argument, json_option, print_json
from merganser.errors import PlanError


@click.command()
@file_argument
@click.option("--rag", help="Which rag; needed when there are several.")
@click.option("--to", "generation", type=int, help="Which snapshot [default: the one before].")
@json_option
def command(file: str, *, rag: str | None, generation: int | None, as_json: bool) -> int:
    """Serve an earlier snapshot of an index of FILE; what is served now stays kept."""
    from merganser.config.load import load_config
    from merganser.config.rag_definition import resolve_rag
    from merganser.store.snapshots import rollback

    config = load_config(file)
    names = [rag] if rag else list(config.spec.rag)
    indexes = {i.name: i for name in names for i in resolve_rag(config, name).indexes}
    if len(indexes) != 1:
        known = ", ".join(repr(name) for name in config.spec.rag)
        raise PlanError(f"name one of {known} with --rag: a rollback is of one index")
    ((name, index),) = indexes.items()
    served = rollback(index.folder, generation)
    if as_json:
        print_json({"index": name, "served": served})
    else:
        click.echo(f"{name} serves snapshot {served}")
    return 0
