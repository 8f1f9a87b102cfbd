"""The examples in docstrings run, and what others extend has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

EXTENDED_PACKAGES = ("agent", "batch", "chunking", "documents", "evaluation", "retrieval")
"""Packages that a contributor adds a kind of something to."""

WITH_EXAMPLES = (
    "merganser.agent.tools",
    "merganser.agent.citations",
    "merganser.agent.evidence",
    "merganser.chunking.chunks",
    "merganser.chunking.code",
    "merganser.chunking.sections",
    "merganser.chunking.text",
    "merganser.documents.file_types",
    "merganser.documents.html_text",
    "merganser.documents.reading",
    "merganser.retrieval.bm25",
    "merganser.retrieval.ranking",
    "merganser.evaluation.metrics",
    "merganser.retrieval.dense",
    "merganser.retrieval.fusion",
    "merganser.retrieval.lexical",
    "merganser.retrieval.rerank",
)
"""Modules that show by an example how their kind is used or extended."""


def modules_of(package: str) -> list[str]:
    found = importlib.import_module(f"merganser.{package}")
    return [name for _, name, _ in pkgutil.walk_packages(found.__path__, f"{found.__name__}.")]


def examples_of(module: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("package", EXTENDED_PACKAGES)
def test_the_examples_give_what_they_say(package: str):
    reports: list[str] = []
    for module in modules_of(package):
        for test in examples_of(module):
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            runner.run(test, out=reports.append)

    assert "".join(reports) == ""


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_what_others_extend_shows_an_example(module: str):
    assert examples_of(module)
