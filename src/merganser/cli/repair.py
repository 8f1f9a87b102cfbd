"""``merganser repair``: mend damaged indexes, embedding only what is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from merganser.cli.options import (
    Reach,
    file_argument,
    indexes_by_name,
    json_option,
    print_json,
    reach_options,
)
from merganser.cli.terminal import say, say_folded

if TYPE_CHECKING:
    from collections.abc import Collection

    from merganser.config.load import Config


@click.command()
@file_argument
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@reach_options
@json_option
def command(file: str, *, dry_run: bool, as_json: bool, reach: Reach) -> int:
    """Mend the indexes of FILE; exits with 1 when something stays damaged.

    Files whose chunks are damaged are read again, and only texts without a vector are embedded: in
    no whole segment, no journal, and not in what can be read of the damaged segments.
    """
    from merganser.cli.verify import as_row, show
    from merganser.store.repair import repair_files
    from merganser.store.verification import verify_index

    config = reach.load(file)
    indexes = indexes_by_name(config)
    before = {n: verify_index(index.folder, read_data=True) for n, index in indexes.items()}
    if not as_json:
        for name, one in before.items():
            show(indexes[name], one, repairs=True)
    if dry_run:
        if as_json:
            print_json({"indexes": [as_row(indexes[n], one) for n, one in before.items()]})
        return 0 if all(one.is_whole for one in before.values()) else 1
    mended = {n: repair_files(indexes[n].folder) for n, one in before.items() if not one.is_whole}
    _run(reach, config, {name for name, one in mended.items() if one.needs_run}, quiet=as_json)
    after = {name: verify_index(indexes[name].folder, read_data=True) for name in mended}
    if as_json:
        rows = [
            {**as_row(indexes[name], one), "done": mended[name].done} for name, one in after.items()
        ]
        print_json({"indexes": rows})
        return 0 if all(one.is_whole for one in after.values()) else 1
    for name, one in after.items():
        for line in mended[name].done:
            say(f"{name}: {line}")
        show(indexes[name], one)
    if not mended:
        say("nothing to repair")
    return 0 if all(one.is_whole for one in after.values()) else 1


def _run(reach: Reach, config: Config, names: Collection[str], *, quiet: bool) -> None:
    """Bring the indexes up to date whose files have to be read again."""
    from merganser.cli.flow_runs import choose_flows, run_flow
    from merganser.cli.index import describe_report
    from merganser.config.flow_definition import IndexFlow
    from merganser.config.rag_definition import resolve_rag

    left = set(names)
    for flow in choose_flows(config, None, IndexFlow) if left else ():
        assert isinstance(flow, IndexFlow)
        own = {index.name for rag in flow.rags for index in resolve_rag(config, rag).indexes}
        if own & left:
            left -= own
            outcome = run_flow(reach, config, flow, {"repair": True}, quiet=quiet)
            for report in () if quiet else outcome.reports:
                say_folded(describe_report(report))
