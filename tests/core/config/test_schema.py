"""The JSON schema that editors read."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.reference import build_schema, render_schema

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
VALID = sorted([*(ROOT / "configs").glob("*.yaml"), *(HERE / "seeds").glob("*.yaml")])
INVALID = [
    HERE / "bad" / f"{name}.yaml"
    for name in ("agents", "models", "rag", "restricting", "evaluation")
]


def problems_of(value: Any) -> list[str]:
    # Prefect brings jsonschema, which has no types.
    validator: Any = import_module("jsonschema").Draft202012Validator(build_schema())
    return [str(error.json_path) for error in validator.iter_errors(value)]


def test_the_schema_in_configs_is_up_to_date():
    path = ROOT / "configs" / "schema.json"

    assert path.read_text(encoding="utf-8") == render_schema(), "run: make reference"


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_configs_that_load_fit_the_schema(path: Path):
    assert problems_of(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_bad_configs_do_not_fit_the_schema(path: Path):
    assert problems_of(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_dropped_toolsets_and_keys_fit_the_schema():
    value: dict[str, Any] = {
        "agents": {"root": {"sub_agents": ["x"], "toolsets": [{"type": "shell", "env": {}}]}},
        "mcps": {"x": {"ref": "docker:x"}},
    }

    assert problems_of(value) == []


def test_every_key_is_described():
    definitions = build_schema()["$defs"]
    missing = [
        f"{name}.{key}"
        for name, entry in definitions.items()
        for key, value in entry.get("properties", {}).items()
        if name != "UnsupportedToolset" and not value.get("description")
    ]

    assert missing == []
