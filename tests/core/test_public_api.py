"""The names that ``merganser`` promises, and what importing it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module

import pytest

import merganser

PUBLIC = [
    "Config",
    "Hit",
    "IndexReport",
    "MerganserError",
    "Plan",
    "Retriever",
    "SearchResult",
    "SpecError",
    "SpecErrors",
    "build_plan",
    "compile_flow",
    "index_once",
    "load_config",
    "resolve_flow",
    "resolve_flows",
    "resolve_rag",
]


def test_the_public_names_are_these_and_sorted() -> None:
    assert list(merganser.__all__) == PUBLIC
    assert sorted(PUBLIC) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_the_one_of_its_module(name: str) -> None:
    value = getattr(merganser, name)

    assert value is getattr(import_module(value.__module__), name)
    assert name in dir(merganser)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'index_all'"):
        _ = merganser.index_all


def test_importing_merganser_brings_no_heavy_library() -> None:
    heavy = ["prefect", "duckdb", "numpy", "pydantic", "httpx", "pydantic_ai"]
    program = (
        f"import json, merganser, sys; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    )

    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)

    assert json.loads(done.stdout) == []
