"""Fixtures of the language tests."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Protocol

import pytest

from merganser.config.load import load_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from merganser.config.load import Config


class Load(Protocol):
    """Write YAML and load it."""

    def __call__(
        self,
        text: str,
        *,
        model_map: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        name: str = "config.yaml",
    ) -> Config: ...


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a config from text, in the test's own folder, without the process's environment."""

    def load_text(
        text: str,
        *,
        model_map: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        name: str = "config.yaml",
    ) -> Config:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return load_config(path, model_map=model_map, environment=environment or {})

    return load_text
