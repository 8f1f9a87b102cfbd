"""Tell what kind of document a file is, by its path: code, docs, tests, and so on.

``GENERATED``, minified and vendored files that only their content or their folder shows are known
by ``merganser.documents.generated`` and ``merganser.documents.vendored``. ``docs/documents.md``
says of each kind what it is.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from merganser.documents.file_types import (
    is_binary_name,
    is_minified_name,
    language_of,
    original_name,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Kind = Literal[
    "code", "docs", "tests", "examples", "config", "data", "generated", "vendored", "lock"
]
"""What a document is for."""

KINDS: tuple[Kind, ...] = get_args(Kind)
ALL_KINDS = frozenset[Kind](KINDS)
LEFT_OUT = frozenset[Kind]({"generated", "vendored", "lock"})
"""What is left out unless ``kinds``, ``include`` or ``docs`` name it."""
DEFAULT_KINDS = ALL_KINDS - LEFT_OUT
"""What is indexed where ``kinds`` is not written."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LOCK_FILES = _words(
    "bun.lock bun.lockb cargo.lock cartfile.resolved composer.lock conan.lock deno.lock flake.lock"
    " gemfile.lock glide.lock go.sum go.work.sum gopkg.lock gradle.lockfile mix.lock"
    " module.bazel.lock npm-shrinkwrap.json package-lock.json package.resolved packages.lock.json"
    " paket.lock pdm.lock pipfile.lock pixi.lock pnpm-lock.yaml podfile.lock poetry.lock"
    " pubspec.lock pylock.toml rebar.lock shard.lock uv.lock yarn.lock .terraform.lock.hcl"
)
"""Names of files in which a tool wrote down the versions that it chose, in lower case."""

VENDORED_FILES = _words(".pnp.cjs .pnp.loader.mjs gradlew gradlew.bat mvnw mvnw.cmd erlang.mk")
"""Names of files that are copied into every project as they are, in lower case."""

GENERATED_NAME = re.compile(
    r"(?:\.designer\.(?:cs|vb)|\.feature\.cs|\.g\.i?\.?cs|_tlb\.pas|\.(?:js|mjs|cjs|css)\.map)$"
)
"""Names that only generators give, in lower case; as in linguist's list."""

TEST_FOLDERS = _words(
    "test tests __tests__ __spec__ testdata test-data test_data testing-data fixtures"
    " __fixtures__ __mocks__ __snapshots__ e2e integration-tests integration_tests unittests"
    " unit-tests functional-tests test-fixtures cypress cassettes"
)
SPEC_FOLDERS = _words("spec specs")
"""Tests, unless they are prose: some projects keep specifications there."""
_TEST_FOLDER = re.compile(
    r"(?!(?:ch|chapter|lesson|part|step|unit|week)?[._-]?\d)"  # a chapter about tests
    r".*(?:[._-](?:[Uu]nit|[Ii]ntegration|[Ff]unctional|[Aa]cceptance|[Ee]2[Ee])?[Tt]ests?"
    r"|[a-z0-9](?:Unit|Integration|Functional|Android|Acceptance)?Tests?)$"
)
"""``Shop.Tests``, ``api-test``, ``androidTest``, ``commonTest``."""
_TEST_PACKAGE = re.compile(
    r"(?!(?:la|con|at|pro|de|fas|faste|grea|greates|bes|bigge|highe|newe|olde)test$)[a-z0-9]{2,}test$"
)
"""``httptest``, ``caddytest``, as packages of Go are named; not ``latest``, ``contest``."""

_TEST_NAME = re.compile(
    r"(?:test_[^/]*|[^/]*_tests?|tests?|conftest)\.(?:py|pyi|rs|rb|go|c|cc|cpp|cxx|exs?|dart|lua|jl|sh|php|js|ts|zig|nim|ml|f90|d)$"
    r"|[^/]+[._-](?:test|tests|spec|specs|cy|e2e|e2e-spec)\.(?:[cm]?[jt]sx?|vue|svelte|rb|lua|cr|php|go|dart|coffee|elm)$"
    r"|[^/]*_spec\.\w+$|test[-_][^/]*\.(?:r|js|mjs|ts)$|[^/]+\.(?:bats|t|feature|snap)$"
)
_TEST_CLASS = re.compile(
    r"(?:^|[a-z0-9_])(?:Tests?|Spec|Specs|TestCase|IT)\.(?:java|kt|kts|cs|fs|vb|php|swift|scala|groovy|hs|m|mm)$"
)

EXAMPLE_FOLDERS = _words(
    "example examples sample samples demo demos tutorial tutorials quickstart quickstarts"
    " cookbook docs_src _examples playground playgrounds"
)
_EXAMPLE_NAME = re.compile(
    r"example_[^/]*_test\.go$|example_test\.go$|[^/]+\.(?:stories|story)\.[jt]sx?$|[^/]+\.(?:example|sample|dist-example)$"
)

DOC_FOLDERS = _words(
    "doc docs documentation manual manuals man guide guides handbook wiki website site rfcs rfc adr"
    " adrs help changelog changelogs changelog.d changes.d news.d newsfragments"
)
_NOTE_NAME = re.compile(r"[^.]+|[#+]?\d+\.[a-z_]+(?:\.\d+)?")
"""Prose without a suffix, and notes on changes as ``123.bugfix``, where documentation stands."""
_DOC_NAME = re.compile(
    r"(?:readme|changelog|changes|history|news|(?:un)?licen[cs]e|copying|copyright|notice|authors|contributors|contributing|"
    r"maintainers|security|support|governance|code_of_conduct|install|todo|roadmap|upgrading|"
    r"migration|faq|patents)(?:[._-][^/]*)?$"
)
PROSE_LANGUAGES = _words(
    "markdown restructuredtext asciidoc latex org text pdf docx doc odt epub rtf pptx odp troff"
)
DATA_LANGUAGES = _words("csv tsv xlsx ods jsonl json xml")
CONFIG_LANGUAGES = _words("yaml toml ini dockerfile makefile cmake go.mod")

CONFIG_FOLDERS = _words(
    ".github .circleci .gitlab .husky .vscode .idea .devcontainer .azure-pipelines .buildkite"
    " .storybook proguard config configs conf settings deploy deployment k8s helm charts manifests"
)
_CONFIG_NAME = re.compile(
    r"(?:package|composer|bower|tsconfig[^/]*|jsconfig|angular|nx|turbo|lerna|vercel|renovate|biome|deno|project|"
    r"appsettings[^/]*|launchsettings|manifest|global|nuget)\.jsonc?$"
    r"|[^/]+\.(?:jsonc|json5)$|[^/]*proguard[^/]*\.(?:txt|cfg)$|[^/]+\.pro$|[^/]*config\.json$|rust-toolchain$"
    r"|[^/]*\.config\.(?:[cm]?[jt]s|json)$|[^/]*rc\.(?:[cm]?js|json)$|gulpfile\.[cm]?[jt]s$|gruntfile\.js$"
    r"|(?:pom|web|app|nuget|packages|androidmanifest|build|ivy)\.(?:xml|config)$"
    r"|[^/]+\.(?:csproj|fsproj|vbproj|vcxproj|sln|slnx|props|targets|xcconfig|pbxproj|plist|gemspec|cabal|podspec|gradle|gradle\.kts|sbt|bazel|bzl|ruleset)$"
    r"|(?:requirements|constraints)[^/]*\.(?:txt|in)$|(?:runtime|robots|humans|cmakelists)\.txt$"
    r"|(?:gemfile|rakefile|jenkinsfile|vagrantfile|procfile|codeowners|brewfile|podfile|cartfile|build|workspace|meson\.build|setup\.py|snakefile|go\.work|manifest\.in)$"
)
_DATA_FOLDERS = _words("data dataset datasets i18n locale locales lang translations assets static")
_DATA_NAME = re.compile(
    r"publicapi\.(?:un)?shipped\.txt"
    r"|[^/]+\.(?:log|svg|geojson|po|pot|ics|pem|crt|srt|vtt|dat|diff|patch)$"
)
_VENDORED_FOLDERS = _words(
    "node_modules bower_components jspm_packages third_party third-party thirdparty 3rdparty"
    " site-packages dist-packages .venv"
)
_GENERATED_FOLDERS = _words("__generated__ .sqlx htmlcov")
_SITE_TEMPLATES = _words("templates layouts partials _layouts _includes _partials")
_TEMPLATE_FOLDERS = _words("src lib app views components public packages themes")


def kind_of(path: str, language: str | None = None) -> Kind:
    """Return the kind of a file by its path.

    Args:
        path: Posix, as users see it.
        language: By its name; None also when its name says nothing.

    >>> [kind_of(path) for path in ("src/a.py", "src/a_test.go", "docs/a.md", "uv.lock", "a.yml")]
    ['code', 'tests', 'docs', 'lock', 'config']
    """
    folder, _, name = path.rpartition("/")
    language = language or language_of(name)
    name = original_name(name)
    lowered = name.lower()
    if lowered in LOCK_FILES:
        return "lock"
    place = _place(folder)
    if place == "vendored" or place == "generated":  # noqa: PLR1714 - narrows the type
        return place
    if lowered in VENDORED_FILES:
        return "vendored"
    if GENERATED_NAME.search(lowered):
        return "generated"
    is_prose = language in PROSE_LANGUAGES
    if (
        place == "tests"
        or (place == "spec" and not is_prose)
        or (not is_prose and _is_test(name, lowered))
    ):
        return "tests"
    if place == "examples" or _EXAMPLE_NAME.match(lowered):
        return "examples"
    return _by_content_type(folder, lowered, language, place)


def refuse_by_name(
    name: str, wanted: Collection[Kind]
) -> tuple[Literal["binary", "generated", "lock", "minified", "vendored"], str] | None:
    """Return why a file is left out by its name, with what was seen; None when it is not.

    Args:
        name: The last part of its path.
        wanted: The kinds that are taken.

    >>> refuse_by_name("logo.png", ALL_KINDS), refuse_by_name("uv.lock", DEFAULT_KINDS)
    (('binary', 'by its name'), ('lock', 'by its name'))
    """
    if is_binary_name(name):
        return "binary", "by its name"
    lowered = name.lower()
    if lowered in LOCK_FILES:
        return None if "lock" in wanted else ("lock", "by its name")
    if lowered in VENDORED_FILES:
        return None if "vendored" in wanted else ("vendored", "by its name")
    if "generated" in wanted:
        return None
    if is_minified_name(name):
        return "minified", "by its name"
    # A search of the expression for each name costs more than a look at its end.
    if lowered.endswith((".cs", ".vb", ".pas", ".map")) and GENERATED_NAME.search(lowered):
        return "generated", "by its name"
    return None


def _is_test(name: str, lowered: str) -> bool:
    return bool(_TEST_NAME.fullmatch(lowered) or _TEST_CLASS.search(name))


def _by_content_type(folder: str, lowered: str, language: str | None, place: str) -> Kind:
    """Return the kind of a file that is neither a test nor an example."""
    if _CONFIG_NAME.fullmatch(lowered):
        return "config"
    if language in PROSE_LANGUAGES or language is None or language == "json":
        if _DOC_NAME.fullmatch(lowered) and language != "json":
            return "docs"
        if _DATA_NAME.fullmatch(lowered):
            return "data"
    if language == "html":
        above = folder.lower().split("/")
        of_site = not _SITE_TEMPLATES.isdisjoint(above)
        of_program = place != "docs" and not _TEMPLATE_FOLDERS.isdisjoint(above)
        return "code" if of_site or of_program else "docs"
    if language in PROSE_LANGUAGES or (place == "docs" and language == "notebook"):
        return "docs"
    if language in CONFIG_LANGUAGES or lowered.startswith("."):
        return "data" if place == "data" and language == "yaml" else "config"
    if lowered.endswith((".xsl", ".xslt")):
        return "code"
    if language in DATA_LANGUAGES:
        if language in {"csv", "tsv", "xlsx", "ods", "jsonl"} or _DATA_NAME.fullmatch(lowered):
            return "data"
        return "config" if place == "config" or language == "xml" else "data"
    if language is None and place == "config":
        return "config"
    if language is None:
        if place == "docs" and _NOTE_NAME.fullmatch(lowered):
            return "docs"
        is_script = "." not in lowered and folder.rpartition("/")[2] in {"bin", "scripts"}
        return "code" if is_script else "data"
    return "code"


@lru_cache(maxsize=8192)
def _place(folder: str) -> Kind | Literal["", "spec"]:
    """Return what the folders above a file say: a kind, or "" for nothing.

    The outermost folder that says something decides, except that examples stand in the
    documentation, too.
    """
    if not folder:
        return ""
    found: Kind | Literal["", "spec"] = ""
    for part in folder.split("/"):
        said = _folder_kind(part)
        if said in {"vendored", "generated"}:
            return said
        is_better = (
            not found or (found == "docs" and said == "examples") or found in {"data", "config"}
        )
        if said and is_better:
            found = said
    return found


_FOLDERS: Mapping[Kind | Literal["spec"], frozenset[str]] = {
    "vendored": _VENDORED_FOLDERS,
    "generated": _GENERATED_FOLDERS,
    "tests": TEST_FOLDERS,
    "spec": SPEC_FOLDERS,
    "examples": EXAMPLE_FOLDERS,
    "docs": DOC_FOLDERS,
    "config": CONFIG_FOLDERS,
    "data": _DATA_FOLDERS,
}


def _folder_kind(part: str) -> Kind | Literal["", "spec"]:
    lowered = part.lower()
    if part == "Pods":  # others' code; "pods" are those of Kubernetes
        return "vendored"
    for kind, names in _FOLDERS.items():
        if lowered in names:
            return kind
    return "tests" if _TEST_FOLDER.match(part) or _TEST_PACKAGE.fullmatch(part) else ""
