"""What ``merganser eval`` takes as required, in both spellings."""

from __future__ import annotations

from typing import Any

import click
import pytest

from merganser.cli import group
from merganser.cli.eval import command


def required(*words: str) -> list[tuple[Any, ...]]:
    root = click.Context(group, **group.context_settings)
    context = command.make_context("eval", ["birds.yaml", *words], parent=root)
    return [(str(one.metric), one.key, one.value) for one in context.params["required"]]


@pytest.mark.parametrize(
    "words",
    [
        ["--require", "recall@5>=0.8", "--require", "mrr@10 drop<=0.02"],
        ["--require=recall@5 >= 0.8", "--require=mrr@10 drop <= 0.02"],
        ["--min-recall@5", "0.8", "--max-drop-mrr@10=0.02"],
    ],
)
def test_a_requirement_is_read_in_the_new_and_in_the_old_spelling(words: list[str]):
    assert required(*words) == [("recall@5", "min", 0.8), ("mrr@10", "max_drop", 0.02)]
