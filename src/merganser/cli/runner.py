"""``merganser runner``: serve models on this machine without Docker."""

from __future__ import annotations

from pathlib import Path

import click

from merganser.cli.options import json_option, parse_pairs, show_service
from merganser.cli.terminal import say


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=12434, show_default=True, help="Port; 0 takes any free one.")
@click.option("--models", type=click.Path(file_okay=False), help="Folder with own GGUF or ONNX.")
@click.option(
    "--alias",
    multiple=True,
    metavar="NAME=MODEL",
    callback=parse_pairs,
    help="Serve a name by another model; repeatable.",
)
@click.option("--offline", is_flag=True, help="Never ask the model hub.")
@click.option("--status", is_flag=True, help="Tell whether the one of --embedded runs.")
@click.option("--stop", is_flag=True, help="End the one of --embedded.")
@json_option
def command(
    *,
    host: str,
    port: int,
    models: str | None,
    alias: dict[str, str],
    offline: bool,
    status: bool,
    stop: bool,
    as_json: bool,
) -> int:
    """Serve embeddings and chat over Docker Model Runner's HTTP contract until Ctrl-C.

    Commands with --embedded start one in the background, which ends when unused for half an hour.
    """
    from merganser.services.runner import require_extra, running_runner

    if status or stop:
        return show_service(running_runner(), stop=stop, as_json=as_json)
    require_extra()
    from merganser.runner.embedded_runner import serve

    serve(
        host,
        port,
        models_dir=Path(models) if models else None,
        aliases=alias,
        offline=offline or None,
        pulled=None,
        on_ready=lambda url: say(
            f"serving models at {url}\nuse it: export MODEL_RUNNER_HOST={url}", err=True
        ),
    )
    return 0
