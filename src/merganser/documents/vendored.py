"""Know the folders that tools fill: dependencies, environments, caches, and what builds make.

A name that no person gives to a folder of sources is enough. Names that people do give (``build``,
``target``, ``vendor``, ...) need a sign beside the folder or in it, so that nobody's sources are
lost. Nothing is opened for that: names are looked at, and only beside such folders.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class FolderRule:
    """When a folder of some name is a tool's.

    Attributes:
        reason: ``vendored`` for dependencies, environments and caches, ``generated`` for builds.
        what: What is in it, for people.
        beside: Names and globs of which one has to stand beside the folder; empty for none.
        inside: Of which one has to be in it; empty for none.
    """

    reason: Literal["vendored", "generated"]
    what: str
    beside: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()


def _all(names: str, rule: FolderRule) -> dict[str, tuple[FolderRule, ...]]:
    return dict.fromkeys(names.split(), (rule,))


def _vendored(what: str, beside: str = "", inside: str = "") -> FolderRule:
    return FolderRule("vendored", what, tuple(beside.split()), tuple(inside.split()))


def _built(what: str, beside: str = "", inside: str = "") -> FolderRule:
    return FolderRule("generated", what, tuple(beside.split()), tuple(inside.split()))


_JS_OUTPUT = "*.map *.min.js *.min.css asset-manifest.json _next _astro licenses.txt"

FOLDER_RULES: Mapping[str, tuple[FolderRule, ...]] = {
    **_all("node_modules bower_components jspm_packages .pnpm-store", _vendored("npm packages")),
    **_all("site-packages dist-packages __pypackages__ .eggs", _vendored("Python packages")),
    **_all(".venv .tox .nox", _vendored("a virtual environment")),
    **_all(
        "__pycache__ .mypy_cache .pytest_cache .ruff_cache .hypothesis .ipynb_checkpoints"
        " .pytype .parcel-cache .turbo .nyc_output .angular .cache .gradle .terraform .vs"
        " .eslintcache .sass-cache .dart_tool .stack-work .bloop .metals .ccls-cache .clangd",
        _vendored("a tool's cache"),
    ),
    **_all(
        "third_party third-party thirdparty 3rdparty ThirdParty Third_Party",
        _vendored("others' code"),
    ),
    **_all("Pods", _vendored("CocoaPods")),
    **_all("elm-stuff", _vendored("Elm packages")),
    "venv": (_vendored("a virtual environment", inside="pyvenv.cfg conda-meta"),),
    "env": (_vendored("a virtual environment", inside="pyvenv.cfg conda-meta"),),
    "ENV": (_vendored("a virtual environment", inside="pyvenv.cfg conda-meta"),),
    "vendor": (
        _vendored("Go modules", inside="modules.txt vendor.json github.com golang.org"),
        _vendored("Composer packages", inside="composer/installed.json autoload.php"),
        _vendored("crates", inside="*/.cargo-checksum.json"),
    ),
    "deps": (_vendored("Mix packages", beside="mix.exs rebar.config"),),
    "Carthage": (_vendored("Carthage packages", beside="Cartfile Cartfile.resolved"),),
    "bundle": (_vendored("Ruby gems", inside="ruby"),),
    "releases": (_vendored("Yarn itself", inside="yarn-*.cjs yarn-*.js"),),
    "plugins": (_vendored("Yarn's plugins", inside="@yarnpkg"),),
    **_all(".next .nuxt .svelte-kit .docusaurus .vercel .serverless .expo", _built("a build")),
    **_all("__generated__ .sqlx", _built("a generator's output")),
    "htmlcov": (_built("a coverage report"),),
    "coverage": (_built("a coverage report", inside="lcov.info lcov-report coverage-final.json"),),
    "dist-newstyle": (_built("Cabal's build"),),
    "DerivedData": (_built("Xcode's build"),),
    ".build": (_built("Swift's build", beside="Package.swift"),),
    "_build": (
        _built("a build", beside="mix.exs rebar.config dune-project"),
        _built("Sphinx' output", inside="html doctrees"),
    ),
    "_site": (_built("Jekyll's output", beside="_config.yml _config.yaml .eleventy.js"),),
    "target": (
        _built("Cargo's build", beside="Cargo.toml"),
        _built("Maven's build", beside="pom.xml"),
        _built("sbt's build", beside="build.sbt project.clj"),
        _built("a build", inside="CACHEDIR.TAG .rustc_info.json maven-status"),
    ),
    "obj": (
        _built(
            ".NET's build",
            beside="*.csproj *.fsproj *.vbproj",
            inside="project.assets.json Debug Release *.nuget.*",
        ),
    ),
    "bin": (_built(".NET's build", beside="*.csproj *.fsproj *.vbproj", inside="Debug Release"),),
    "build": (
        _built("CMake's build", inside="CMakeCache.txt CMakeFiles"),
        _built("a build", inside="build.ninja meson-info .ninja_log .ninja_deps"),
        _built(
            "Gradle's build",
            beside="build.gradle build.gradle.kts",
            inside="classes libs tmp reports intermediates kotlin outputs",
        ),
        _built(
            "Python's build",
            beside="setup.py pyproject.toml setup.cfg",
            inside="lib lib.* bdist.* temp.*",
        ),
        _built("a build", beside="package.json", inside=_JS_OUTPUT),
        _built("Flutter's build", beside="pubspec.yaml", inside="flutter_assets app *.cache.dill*"),
    ),
    "dist": (
        _built("a build", beside="package.json", inside=f"{_JS_OUTPUT} *.d.ts index.html"),
        _built("a packed action", beside="action.yml action.yaml"),
        _built("packages", beside="setup.py pyproject.toml", inside="*.whl *.tar.gz"),
    ),
    "out": (
        _built("a build", beside="package.json", inside=f"{_JS_OUTPUT} index.html"),
        _built("a build", inside="CMakeCache.txt build.ninja .ninja_log"),
        _built("IntelliJ's build", inside="production"),
    ),
}
"""By the folder's name, any of the rules is enough."""

MARKS: Mapping[str, str] = {"CACHEDIR.TAG": "a cache", "pyvenv.cfg": "a virtual environment"}
"""Files by which tools mark folders of any name as theirs."""


def folder_rule(folder: str) -> FolderRule | None:
    """Return why a folder is a tool's, or None.

    Args:
        folder: Absolute path of a directory.
    """
    above, _, name = folder.rpartition("/")
    rules = FOLDER_RULES.get(name)
    if rules is None:
        return None
    return next((rule for rule in rules if _holds(rule, above, folder)), None)


def describe(rule: FolderRule, folder: str) -> str:
    """Say what is in a folder and by what that is known."""
    above = folder.rpartition("/")[0]
    signs = [
        *_seen(rule.beside, above),
        *(f"{folder.rpartition('/')[2]}/{name}" for name in _seen(rule.inside, folder)),
    ]
    return f"{rule.what}: {', '.join(signs)}" if signs else rule.what


def _holds(rule: FolderRule, above: str, folder: str) -> bool:
    if rule.beside and not _seen(rule.beside, above):
        return False
    return not rule.inside or bool(_seen(rule.inside, folder))


def _seen(patterns: Iterable[str], folder: str) -> list[str]:
    """Return the first name in a folder that one of the patterns names, in a list, else none."""
    names: list[str] | None = None
    for pattern in patterns:
        if "*" not in pattern:
            if os.path.lexists(f"{folder}/{pattern}"):
                return [pattern]
            continue
        first, _, rest = pattern.partition("/")
        if names is None:
            names = _names(folder)
        for name in names:
            if fnmatchcase(name, first) and (
                not rest or os.path.lexists(f"{folder}/{name}/{rest}")
            ):
                return [name]
    return []


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are enough
    except OSError:
        return []
