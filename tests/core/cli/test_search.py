"""``search``: what its filters let through."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from merganser.cli import search
from merganser.config.load import load_config
from merganser.config.rag_definition import resolve_rag
from merganser.indexing.run import index_once

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
rag:
  birds: {docs: [.], strategies: [{type: bm25}]}
"""
FILES = {
    "docs/heron.md": "# Heron\n\nThe heron eats fish.\n",
    "src/[id]/heron.py": "def heron():\n    return 'fish'\n",
    "tests/test_heron.py": "def test_heron():\n    assert 'fish'\n",
    "heron.csv": "bird,eats\nheron,fish\n",
}


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("birds")
    for path, text in {**FILES, "birds.yaml": CONFIG}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for index in resolve_rag(load_config(folder / "birds.yaml"), "birds").indexes:
        index_once(index, None)
    return folder


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        (["--kind", "docs"], {"docs/heron.md"}),
        (["--kind", "code", "--kind", "data"], {"src/[id]/heron.py", "heron.csv"}),
        (["--kind", "code", "--path", "tests"], set[str]()),
        (["--path", "src/[id]/heron.py"], {"src/[id]/heron.py"}),
        (["--path", "src/[id]"], {"src/[id]/heron.py"}),
        (["--path", "{here}/docs/heron.md"], {"docs/heron.md"}),
        (["--path", "*.py", "--path", "!tests"], {"src/[id]/heron.py"}),
    ],
)
def test_filters_let_through_what_they_name(birds: Path, options: list[str], paths: set[str]):
    given = [option.format(here=birds) for option in options]

    done = CliRunner().invoke(
        search.command,
        [str(birds / "birds.yaml"), "heron fish", "--json", *given],
        standalone_mode=False,
    )

    assert done.exception is None, done.output
    hits = json.loads(done.stdout)["rags"]["birds"]["hits"]
    assert {hit["path"] for hit in hits} == paths


def test_an_unknown_kind_is_named(birds: Path):
    done = CliRunner().invoke(search.command, [str(birds / "birds.yaml"), "x", "--kind", "prose"])

    assert done.exit_code == 2
    assert "'prose' is not one of 'code', 'docs'" in done.stderr
