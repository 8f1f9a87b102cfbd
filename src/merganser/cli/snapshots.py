"""``merganser snapshots``: what could be served."""

from __future__ import annotations

from dataclasses import asdict

import click

from merganser.cli.options import file_argument, json_option, print_json


@click.command()
@file_argument
@click.option("--rag", "rags", multiple=True, help="Which rag; repeatable [default: all].")
@json_option
def command(file: str, *, rags: tuple[str, ...], as_json: bool) -> int:
    """List the snapshots of the indexes of FILE; the served one is marked."""
    from merganser.config.load import load_config
    from merganser.config.rag_definition import resolve_rag
    from merganser.store.snapshots import list_snapshots

    config = load_config(file)
    names = rags or tuple(config.spec.rag)
    indexes = {i.name: i for name in names for i in resolve_rag(config, name).indexes}
    found = {name: list_snapshots(index.folder) for name, index in indexes.items()}
    if as_json:
        print_json({name: [asdict(info) for info in infos] for name, infos in found.items()})
        return 0
    for name, infos in found.items():
        click.echo(f"{name} ({indexes[name].folder})")
        if not infos:
            click.echo("  nothing indexed yet")
        for info in infos:
            mark = "served" if info.served else "      "
            model = info.model_name or "no embeddings"
            graphs = ""
            if info.recall is not None:
                graphs += f"  {info.approximate:.0%} approximate (recall@10 {info.recall:.3f})"
            if info.rejected_recall is not None:
                graphs += (
                    f"  an approximate index is not used (recall@10 {info.rejected_recall:.3f})"
                )
            click.echo(
                f"  {info.generation:6d} {mark}  {info.created}  {info.files:,} files  "
                f"{info.chunks:,} chunks  {info.size_bytes / 1e6:,.1f} MB  {model}{graphs}"
            )
    return 0
