"""``merganser verify``: look whether the indexes of a config are whole."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from merganser.cli.options import file_argument, indexes_by_name, json_option, print_json
from merganser.cli.terminal import say

if TYPE_CHECKING:
    from merganser.config.index_definition import IndexDefinition
    from merganser.store.verification import Verification


@click.command()
@file_argument
@click.option("--rag", "rags", multiple=True, help="Which rag; repeatable [default: all].")
@click.option("--read-data", is_flag=True, help="Read every byte: checksums, texts, vectors.")
@json_option
def command(file: str, *, rags: tuple[str, ...], read_data: bool, as_json: bool) -> int:
    """Look whether the indexes of FILE are whole; exits with 1 when one is damaged.

    Compares names, sizes, identities and counts, which takes milliseconds a file.
    """
    from merganser.config.load import load_config
    from merganser.store.verification import verify_index

    indexes = indexes_by_name(load_config(file), rags)
    found = {n: verify_index(index.folder, read_data=read_data) for n, index in indexes.items()}
    if as_json:
        print_json({"indexes": [as_row(indexes[name], one) for name, one in found.items()]})
    else:
        for name, one in found.items():
            show(indexes[name], one)
        if not all(one.is_whole for one in found.values()):
            say(f"`merganser repair {file}` mends it; --dry-run says what it would do", err=True)
    return 0 if all(one.is_whole for one in found.values()) else 1


def as_row(index: IndexDefinition, found: Verification) -> dict[str, Any]:
    """Return what was found in an index, for JSON."""
    return {
        "name": index.name,
        "folder": str(index.folder),
        "whole": found.is_whole,
        "read_data": found.read_data,
        "files": found.files,
        "faults": [asdict(fault) for fault in found.faults],
        "notes": found.notes,
    }


def show(index: IndexDefinition, found: Verification, *, repairs: bool = False) -> None:
    """Print what was found in an index.

    Args:
        index: The index.
        found: In its folder.
        repairs: Whether to say what a repair does about each damage.
    """
    how = "every byte" if found.read_data else "sizes and identities; --read-data reads all"
    state = "whole" if found.is_whole else "DAMAGED"
    say(f"{index.name} ({index.folder}): {state}, {found.files} files looked at ({how})")
    for fault in found.faults:
        say(f"  {fault.file!r} {fault.problem}" + (f": {fault.repair}" if repairs else ""))
    for note in found.notes:
        say(f"  note: {note}")
