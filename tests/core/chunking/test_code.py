"""What the chunks of code look like, language by language."""

from __future__ import annotations

import gc
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from merganser.chunking import Chunk, ChunkingOptions, chunk_document
from merganser.chunking.grammars import parse
from merganser.chunking.languages import LANGUAGES


def split(text: str, language: str, *, size: int, overlap: int = 0) -> list[Chunk]:
    options = ChunkingOptions(size=size, overlap=overlap, code_aware=True)
    return chunk_document(text, language=language, options=options)


def outline(text: str, language: str, *, size: int) -> list[tuple[str, str, int, int]]:
    """Split code and give symbol, kind, first and last line of each chunk."""
    chunks = split(text, language, size=size)
    return [(c.symbol, c.kind, c.start_line, c.end_line) for c in chunks]


PYTHON = '''"""Say what this is about, at some length."""

import os

LIMIT = 10


# Load it first.
@cached
def load(path):
    return open(path).read() + "some text"


class Flow:
    """Run."""

    name = "x"

    @property
    def title(self):
        return self.name.title() + "!" * 20

    async def run(self, value):
        first = prepare(value, really=True)
        second = compute(first, really=True)
        return finish(second, really=True)


def main():
    return Flow().run(load("a file"))
'''
GO = """package server

import "fmt"

// Server serves.
type Server struct {
	name string
	port int
}

// Handle handles one request, and says so.
func (s *Server) Handle(r Request) error {
	fmt.Println("handling", r)
	return nil
}

func (l List[T]) Len() int {
	return len(l.items) + 0 + 0 + 0
}

func main() {
	s := Server{name: "x", port: 80}
	s.Handle(Request{Path: "/", Verb: "GET"})
}
"""
JAVASCRIPT = """import x from "x";

export const load = async (path) => {
  const data = await read(path, "utf-8");
  return data;
};

class Flow extends Base {
  title = () => {
    return this.name + "title of it";
  };

  async run(value) {
    return await this.compute(value, true);
  }
}

export default function main() {
  return new Flow().run(load("a file"));
}
"""
TYPESCRIPT = """import { x } from "x";

export interface Options {
  size: number;
  overlap: number;
}

export abstract class Flow<T> {
  private readonly name: string = "name";

  public async run(value: T): Promise<T> {
    return await this.compute(value, true);
  }
}

namespace Tools {
  export function load(path: string): string {
    return read(path) + "a long enough text";
  }
  export type Path = string | undefined | null;
}
"""
TSX = """export function Page({ title }: Props) {
  return <div className="page"><h1>{title}</h1></div>;
}

export const Row = (props: Props) => (
  <tr><td>{props.first}</td><td>{props.second}</td></tr>
);
"""
RUST = """use std::fmt;

/// A point.
#[derive(Debug, Clone)]
pub struct Point { x: f64, y: f64, z: f64 }

impl<T> fmt::Display for Wrapper<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "({}, {})", self.x, self.y)
    }

    fn other(&self) -> usize {
        self.items.iter().map(|i| i.len()).sum()
    }
}

mod tests {
    #[test]
    fn adds() {
        assert_eq!(super::add(1, 2) + 0, 3);
    }
    fn subtracts() {
        assert_eq!(super::sub(1, 2) + 0, -1);
    }
}
"""
JAVA = """package org.example;

import java.util.List;

/** Runs flows. */
public class Flow {
    private final String name = "name";

    public Flow(String name) {
        this.name = name + "something";
    }

    @Override
    public String toString() {
        return "Flow(" + name + ", " + 1 + ")";
    }
}

enum Color { RED, GREEN, BLUE, YELLOW, ORANGE, VIOLET }
"""
C = """#ifndef X_H
#define X_H
#include <stdio.h>

typedef struct point {
    double x;
    double y;
} point_t;

/* Adds. */
static int add(int a, int b)
{
    int sum = a + b;
    return sum;
}

char *(*lookup(const char *name))(int)
{
    return table[hash(name) % SIZE].value;
}
#endif
"""
CPP = """#include <vector>

namespace tools {

template <typename T>
class Stack {
 public:
  void push(const T& value) { items_.push_back(value); }
  T pop() { T last = items_.back(); items_.pop_back(); return last; }
};

int Counter::next(int step) {
  value_ += step;
  return value_ * factor_ + offset_;
}

}  // namespace tools
"""
BASH = """#!/usr/bin/env bash
set -euo pipefail

# Say it.
say() {
  echo "$1" | tr a-z A-Z | sed -e 's/X/Y/'
}

function main {
  say "hello"
  for i in 1 2 3; do say "$i"; done
}

main "$@"
"""
GOLDEN = {
    "python": (
        PYTHON,
        [
            ("", "module", 1, 7),
            ("load", "function", 8, 13),
            ("Flow, Flow.title", "class", 14, 22),
            ("Flow.run", "method", 23, 25),
            ("Flow.run", "method", 26, 28),
            ("main", "function", 29, 30),
        ],
    ),
    "go": (
        GO,
        [
            ("Server", "class", 1, 10),
            ("Server.Handle", "method", 11, 16),
            ("List.Len", "method", 17, 20),
            ("main", "function", 21, 24),
        ],
    ),
    "javascript": (
        JAVASCRIPT,
        [
            ("load", "function", 1, 7),
            ("Flow, Flow.title", "class", 8, 12),
            ("Flow.run", "method", 13, 17),
            ("main", "function", 18, 20),
        ],
    ),
    "typescript": (
        TYPESCRIPT,
        [
            ("Options", "class", 1, 7),
            ("Flow", "class", 8, 10),
            ("Flow.run", "method", 11, 15),
            ("Tools, Tools.load", "module", 16, 19),
            ("Tools.Path", "class", 20, 21),
        ],
    ),
    "tsx": (TSX, [("Page", "function", 1, 4), ("Row", "function", 5, 7)]),
    "rust": (
        RUST,
        [
            ("Point", "class", 1, 6),
            ("Wrapper", "class", 7, 7),
            ("Wrapper.fmt", "method", 8, 11),
            ("Wrapper.other", "method", 12, 16),
            ("tests, tests.adds", "module", 17, 21),
            ("tests.subtracts", "function", 22, 25),
        ],
    ),
    "java": (
        JAVA,
        [
            ("", "module", 1, 4),
            ("Flow", "class", 5, 8),
            ("Flow.Flow", "method", 9, 12),
            ("Flow.toString", "method", 13, 18),
            ("Color", "class", 19, 19),
        ],
    ),
    "c": (
        C,
        [
            ("point_t", "class", 1, 9),
            ("add", "function", 10, 16),
            ("lookup", "function", 17, 21),
        ],
    ),
    "cpp": (
        CPP,
        [
            ("", "module", 1, 2),
            ("tools", "module", 3, 4),
            ("tools.Stack, tools.Stack.push", "class", 5, 8),
            ("tools.Stack.pop", "method", 9, 11),
            ("tools.Counter.next", "method", 12, 17),
        ],
    ),
    "bash": (BASH, [("say", "function", 1, 8), ("main", "function", 9, 14)]),
}


SAMPLES = Path(__file__).parent / "samples"


def test_every_language_has_a_golden_outline():
    sampled = {path.stem for path in SAMPLES.glob("*.outline")}

    assert sorted(LANGUAGES) == sorted({*GOLDEN, *sampled} - {"yaml"})


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.txt")), ids=lambda path: path.stem)
def test_definitions_of_a_sample_are_found(sample: Path):
    expected = sample.with_suffix(".outline").read_text()

    found = outline(sample.read_text(), sample.stem, size=90)

    assert expected == "".join(f"{k:9}{a:3}-{b:<3} {s}".rstrip() + "\n" for s, k, a, b in found)


@pytest.mark.parametrize("language", GOLDEN)
def test_definitions_are_kept_whole_and_named(language: str):
    text, expected = GOLDEN[language]

    assert expected == outline(text, language, size=130)


def test_a_method_that_is_too_long_is_cut_between_statements():
    chunks = split(PYTHON, "python", size=130)

    run = [c.text for c in chunks if c.symbol == "Flow.run"]
    assert len(run) == 2
    assert run[1].startswith("        return finish(second")


def test_overlap_repeats_lines_inside_a_cut_function_but_not_between_definitions():
    body = "".join(f"    total += step_{i}(total)\n" for i in range(20))
    text = f"def long(total):\n{body}\n\ndef short():\n    return 1\n"

    chunks = split(text, "python", size=200, overlap=60)

    assert [("long", True)] * (len(chunks) - 2) == [
        (after.symbol, after.start_char < before.end_char)
        for before, after in pairwise(chunks[:-1])
    ]
    assert chunks[-1].start_char == chunks[-2].end_char
    assert all(c.text.startswith(("def ", "    total")) for c in chunks)


def test_names_in_other_scripts_are_kept():
    text = "class Größe:\n    def 値(self):\n        return 'ä' * 40\n\n    def b(self): return 1\n"

    chunks = split(text, "python", size=70)

    assert [chunk.symbol for chunk in chunks] == ["Größe, Größe.値", "Größe.b"]


def test_a_long_single_definition_in_a_file_keeps_its_name():
    methods = "".join(f"    def m{i}(self):\n        return {i} * 1000\n\n" for i in range(20))
    text = f"class Only:\n{methods}"

    chunks = split(text, "python", size=200)

    assert all(chunk.symbol.startswith("Only") for chunk in chunks)


def test_code_with_syntax_errors_is_still_split_at_definitions():
    functions = "".join(f"def f{i}(:\n    retrun {i} +* 'text'\n\n\n" for i in range(30))

    chunks = split(functions, "python", size=300)

    assert functions == "".join(chunk.text for chunk in chunks)
    assert all(chunk.text.endswith("\n") for chunk in chunks)


def test_junk_that_makes_the_parser_wander_is_given_up_after_a_number_of_steps():
    assert parse(b"<!--" * 3_000, "go") is None
    assert parse(b"A<" * 10_000, "java") is None  # its memory grows with the square
    assert parse(b"<" * 20_000, "bash") is None  # looks ahead to the end for each
    assert parse(b"package a\n" * 3_000, "go") is not None


@pytest.mark.proof(sample=4)
@pytest.mark.parametrize("language", sorted(LANGUAGES))
@pytest.mark.parametrize("junk", ["<", "(", "[", "{", "`${", "<<A\n", "if(x){\n", 'f"{', "'"])
def test_junk_takes_time_that_grows_with_its_length(junk: str, language: str):
    text = junk * (300_000 // len(junk))

    chunks = split(text, language, size=1000)

    assert text == "".join(chunk.text for chunk in chunks)


def test_a_line_of_half_a_million_values_is_divided():
    text = "x = [\n" + "1," * 500_000 + "]\n"

    chunks = split(text, "python", size=1000)

    assert text == "".join(chunk.text for chunk in chunks)
    assert max(map(len, (chunk.text for chunk in chunks))) <= 1000


def test_a_name_without_end_is_shortened_in_what_bears_it():
    text = f"class {'A' * 50_000}:\n" + "".join(f"    x{i} = {i}\n" for i in range(2_000))

    chunks = split(text, "python", size=100)

    assert {len(chunk.symbol) for chunk in chunks} <= {0, 200}


def test_a_source_is_not_held_in_memory_after_it_was_parsed():
    source = b"def f():\n    pass\n" * 100
    before = sys.getrefcount(source)

    assert parse(source, "python") is not None

    gc.collect()
    assert sys.getrefcount(source) == before


def test_junk_that_is_not_parsed_is_split_like_text():
    text = "<!--" * 3_000

    chunks = split(text, "go", size=1000)

    assert {("", "text")} == {(chunk.symbol, chunk.kind) for chunk in chunks}
    assert text == "".join(chunk.text for chunk in chunks)


def test_a_definition_that_fits_without_its_comments_is_not_divided_for_them():
    comment = "".join(f"// Line {i} of what is said about it.\n" for i in range(12))
    text = f"{comment}func dive(seconds int) int {{\n\treturn 3 * seconds\n}}\n" * 2

    chunks = split(text, "go", size=300)

    assert sum("func dive" in c.text and "}" in c.text for c in chunks) == 2
