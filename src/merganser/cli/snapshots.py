"""``merganser snapshots`` and ``rollback``: what is kept of an index, and serving it again."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from merganser.cli.options import file_argument, indexes_by_name, json_option, print_json
from merganser.cli.terminal import say
from merganser.errors import PlanError

if TYPE_CHECKING:
    from merganser.store.snapshots import SnapshotInfo


@click.command()
@file_argument
@click.option("--rag", "rags", multiple=True, help="Which rag; repeatable [default: all].")
@json_option
def command(file: str, *, rags: tuple[str, ...], as_json: bool) -> int:
    """List the snapshots of the indexes of FILE; the served one is marked."""
    from merganser.config.load import load_config
    from merganser.store.snapshots import list_snapshots

    indexes = indexes_by_name(load_config(file), rags)
    found = {name: list_snapshots(index.folder) for name, index in indexes.items()}
    if as_json:
        print_json({name: [asdict(info) for info in infos] for name, infos in found.items()})
        return 0
    for name, infos in found.items():
        say(f"{name} ({indexes[name].folder})")
        if not infos:
            say("  nothing indexed yet")
        for info in infos:
            say(f"  {_describe(info)}")
    return 0


def _describe(info: SnapshotInfo) -> str:
    mark = "served" if info.served else "      "
    line = (
        f"{info.generation:6d} {mark}  {info.created}  {info.files:,} files  "
        f"{info.chunks:,} chunks  {info.size_bytes / 1e6:,.1f} MB  "
        f"{info.model_name or 'no embeddings'}"
    )
    if info.recall is not None:
        line += f"  {info.approximate:.0%} approximate (recall@10 {info.recall:.3f})"
    if info.rejected_recall is not None:
        line += f"  an approximate index is not used (recall@10 {info.rejected_recall:.3f})"
    return line


@click.command()
@file_argument
@click.option("--rag", help="Which rag; needed when there are several.")
@click.option("--to", "generation", type=int, help="Which snapshot [default: the one before].")
@json_option
def rollback(file: str, *, rag: str | None, generation: int | None, as_json: bool) -> int:
    """Serve an earlier snapshot of an index of FILE; what is served now stays kept."""
    from merganser.config.load import load_config
    from merganser.store import snapshots

    config = load_config(file)
    indexes = indexes_by_name(config, (rag,) if rag else ())
    if len(indexes) != 1:
        known = ", ".join(repr(name) for name in config.spec.rag)
        raise PlanError(f"name one of {known} with --rag: one index is rolled back at a time")
    ((name, index),) = indexes.items()
    served = snapshots.rollback(index.folder, generation)
    if as_json:
        print_json({"index": name, "served": served})
    else:
        say(f"{name} serves snapshot {served}")
    return 0
