"""Keep the folder that a command starts in from configuring Prefect.

Prefect reads ``.env``, ``prefect.toml`` and ``pyproject.toml`` of the current folder, whenever it
makes its settings. In a tree that somebody else wrote these would name another server, a logging
configuration that calls any function, a storage, a home. What stays: the environment, and the
profile of the user's own Prefect folder.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_SOURCES = "prefect.settings.sources"
"""Prefect's module that says where settings come from; all others take them from it."""


def ignore_working_folder() -> None:
    """Let no file of the current folder set anything of Prefect from now on."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())
    if _SOURCES in sys.modules:
        _change(sys.modules[_SOURCES])


class _Finder:
    """Finds the one module as usual, and has it changed once it is there."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load the module, None for all others."""
        if name != _SOURCES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_changed(module: ModuleType) -> None:
                load(module)
                _change(module)

            vars(spec.loader)["exec_module"] = load_changed
        return spec


def _change(sources: Any) -> None:
    """Take the files of the current folder away from what reads them."""
    read_variables = sources.FilteredDotEnvSettingsSource.__init__

    def without_file(self: object, *arguments: Any, **options: Any) -> None:
        read_variables(self, *arguments, **{**options, "env_file": None})

    def no_tables(*_: object) -> dict[str, object]:
        return {}

    def profiles_path() -> Path:
        """Return the user's own profiles, as Prefect finds them when the folder has no file."""
        own = os.environ.get("PREFECT_HOME", str(sources.DEFAULT_PREFECT_HOME))
        chosen = Path(os.environ.get("PREFECT_PROFILES_PATH") or Path(own) / "profiles.toml")
        return chosen if chosen.exists() else Path(sources.DEFAULT_PROFILES_PATH)

    sources.FilteredDotEnvSettingsSource.__init__ = without_file
    sources.TomlConfigSettingsSourceBase._read_files = no_tables  # noqa: SLF001 - Prefect has no switch
    sources._get_profiles_path = profiles_path  # noqa: SLF001
