"""Files of several languages, and files whose grammar fails."""

from __future__ import annotations

import pytest

from merganser.chunking import ChunkingOptions, chunk_document
from merganser.chunking.chunks import describe_fallback

OPTIONS = ChunkingOptions(size=60, overlap=0, code_aware=True, sentences=True)
VUE = """<script setup lang="ts">
import { ref } from "vue";

function dive(seconds: number): number {
  return depth.value * seconds + 1;
}
</script>

<template>
  <template v-if="deep"><p>It dives.</p></template>
  <p>A merganser {{ name }} swims on the lake.</p>
</template>

<style lang="scss">
.merganser { .wing { color: blue; background: white; } }
</style>
"""
SVELTE = """<script>
  export function dive(seconds) { return 3 * seconds; }
</script>

<h1>Mergansers dive for their food</h1>

<style>
  h1 { color: blue; }
</style>
"""
ASTRO = """---
const dive = (seconds: number) => { return 3 * seconds; };
---
<h1>Mergansers</h1>
<script>
  function rest() { return 1; }
</script>
"""


@pytest.mark.parametrize(
    ("language", "text", "symbols"),
    [
        ("vue", VUE, ["script", "script > dive", "template", "style", "style > .merganser"]),
        ("svelte", SVELTE, ["script", "script > dive", "markup", "style > h1"]),
        ("astro", ASTRO, ["script", "script > dive", "markup", "script > rest"]),
    ],
)
def test_each_block_is_cut_by_its_language(language: str, text: str, symbols: list[str]):
    chunks = chunk_document(text, language=language, options=OPTIONS)

    assert text == "".join(chunk.text for chunk in chunks)
    assert set(symbols) == {chunk.symbol for chunk in chunks}


def test_a_file_that_is_in_another_language_is_cut_as_text_and_says_so():
    prose = "The merganser (a duck) dives; it doesn't swim {well} on land, 'tis said...\n" * 9

    chunks = chunk_document(prose, language="go", options=OPTIONS)

    assert (
        describe_fallback(chunks, language="go", options=OPTIONS)
        == "cut as text: its grammar failed"
    )


def test_a_partly_broken_file_keeps_the_definitions_that_parse():
    text = "def dive(seconds):\n    return 3 * seconds + 1\n\n\ndef ((( oops\n\n\n" * 2

    chunks = chunk_document(text, language="python", options=OPTIONS)

    assert "dive" in {chunk.symbol for chunk in chunks}
    assert not describe_fallback(chunks, language="python", options=OPTIONS)


def test_a_grammar_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    def missing(_: str) -> None:
        return None

    def no_version(_: str) -> str:
        return "none"

    monkeypatch.setattr("merganser.chunking.grammars.load_language", missing)
    monkeypatch.setattr("merganser.chunking.grammars._version", no_version)

    chunks = chunk_document("fn dive() {}\n", language="zig", options=OPTIONS)

    said = describe_fallback(chunks, language="zig", options=OPTIONS)
    assert "pip install '.[languages]'" in said


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("grammars.load_language", ValueError("Incompatible Language version 99")),
        ("code.parse", RuntimeError("the scanner failed")),
        ("code.walk", RecursionError("maximum recursion depth exceeded")),
    ],
)
def test_a_file_whose_grammar_raises_is_cut_as_text_and_says_so(
    monkeypatch: pytest.MonkeyPatch, part: str, fault: Exception
):
    def fail(*_: object) -> None:
        raise fault

    text = "def dive():\n    return 1\n\n\ndef swim():\n    return 2\n" * 9
    monkeypatch.setattr(f"merganser.chunking.{part}", fail)

    chunks = chunk_document(text, language="python", options=OPTIONS)

    assert text == "".join(chunk.text for chunk in chunks)
    assert (
        describe_fallback(chunks, language="python", options=OPTIONS)
        == "cut as text: its grammar failed"
    )


def test_code_in_a_page_whose_grammar_raises_is_cut_as_text(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise RuntimeError("the scanner failed")

    text = "# Dive\n\n```python\ndef dive():\n    return 1\n```\n"
    monkeypatch.setattr("merganser.chunking.code.parse", fail)

    chunks = chunk_document(text, language="markdown", options=OPTIONS)

    assert text == "".join(chunk.text for chunk in chunks)
    assert {chunk.symbol for chunk in chunks} == {"Dive"}


def test_only_the_levels_of_a_deep_tree_that_people_write_are_looked_into():
    text = "if x {\n" * 5_000 + "}\n" * 5_000

    chunks = chunk_document(text, language="swift", options=OPTIONS)

    assert text == "".join(chunk.text for chunk in chunks)
    assert not describe_fallback(chunks, language="swift", options=OPTIONS)
