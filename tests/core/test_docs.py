"""The documentation holds: its configs load, its links lead somewhere, its reference is current."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from merganser import load_config
from merganser.cli import group
from merganser.config.sections import ADDITIONS, SECTIONS
from merganser.config.spec_root import Spec
from scripts.reference import render_commands, render_language

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "AGENTS.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def whole_configs() -> list[tuple[str, str]]:
    """Return page and text of every YAML block whose first key may stand at the top of a config."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        for language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
            if language in {"yaml", "yml"}:
                first = re.match(r"(?:#.*\n|\s)*(\w+):", text)
                if first and first[1] in Spec.model_fields:
                    found.append((name_of(page), text))
    return found


def command_lines() -> list[str]:
    """Return every ``merganser`` command that a shell block shows, once."""
    lines = [
        line.strip()
        for page in PAGES
        for language, text in _FENCE.findall(page.read_text(encoding="utf-8"))
        if language == "sh"
        for command in text.splitlines()
        for line in command.split("&&")
        if line.strip().startswith("merganser ")
    ]
    return list(dict.fromkeys(lines))


BLOCKS = whole_configs()
COMMAND_LINES = command_lines()


@pytest.mark.parametrize(
    "text", [text for _, text in BLOCKS], ids=[f"{page}-{n}" for n, (page, _) in enumerate(BLOCKS)]
)
def test_a_config_in_the_docs_loads(tmp_path: Path, text: str) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(text, encoding="utf-8")
    if base := re.search(r"^extends: \./(\S+)", text, re.MULTILINE):
        (tmp_path / base[1]).write_text(block_before(text), encoding="utf-8")

    config = load_config(path, environment={})

    assert config.warnings == ()


def block_before(text: str) -> str:
    """Return the block that stands before another one and extends nothing: its base on the page."""
    place = [block for _, block in BLOCKS].index(text)
    return next(block for _, block in reversed(BLOCKS[:place]) if "extends:" not in block)


@pytest.mark.parametrize("line", COMMAND_LINES, ids=lambda line: line)
def test_a_command_in_the_docs_parses(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    name, *arguments = words
    root = click.Context(group, **group.context_settings)
    command = group.get_command(root, name)

    assert command is not None
    assert command.make_context(name, arguments, parent=root).info_name == name


def test_the_docs_show_configs() -> None:
    pages = {page for page, _ in BLOCKS}

    assert {"README.md", "docs/tutorial.md"} <= pages


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    broken: list[str] = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings as GitHub forms them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_commands_page_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == render_commands(), (
        "run: make reference"
    )


def test_the_language_page_is_current() -> None:
    assert (ROOT / "docs" / "language.md").read_text(encoding="utf-8") == render_language(), (
        "run: make reference"
    )


def test_every_key_marked_as_added_exists() -> None:
    keys = {
        (*section.pattern, key)
        for section in SECTIONS
        for variant in section.variants.values()
        for key in variant.model.model_fields
    }

    assert keys >= ADDITIONS


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_an_example_config_loads_without_warnings(path: Path) -> None:
    assert load_config(path).warnings == ()


_NAMED = re.compile(r"`((?:src/merganser/|flows/|tasks/|tests/)?[a-z_/]+(?:\.py|/))`")
"""A module or folder in backticks, as the pages for contributors name them."""


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "AGENTS.md"])
def test_modules_that_a_page_names_exist(page: str) -> None:
    named = _NAMED.findall((ROOT / page).read_text(encoding="utf-8"))

    missing = [
        name
        for name in named
        if not (ROOT / name).exists() and not (ROOT / "src/merganser" / name).exists()
    ]

    assert missing == []


def test_the_architecture_names_every_package() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    packages = sorted(path.parent.name for path in (ROOT / "src/merganser").glob("*/__init__.py"))

    assert [name for name in packages if f"`src/merganser/{name}`" not in page] == []
