"""Name the language of a file by its name; nothing is opened."""

from __future__ import annotations

_BY_SUFFIX: dict[str, str] = {
    suffix: language
    for language, suffixes in {
        "bash": "sh bash bats ksh ebuild",
        "c": "c h",
        "clojure": "clj cljs cljc edn",
        "cpp": "cc cpp cxx c++ hh hpp hxx h++ ipp tpp inl cu cuh ino",
        "csharp": "cs csx",
        "css": "css scss sass less",
        "csv": "csv tsv",
        "dart": "dart",
        "elixir": "ex exs",
        "erlang": "erl hrl",
        "fsharp": "fs fsi fsx",
        "go": "go",
        "graphql": "graphql gql",
        "groovy": "groovy gradle",
        "haskell": "hs lhs",
        "hcl": "tf tfvars hcl",
        "html": "html htm xhtml",
        "ini": "ini cfg conf properties editorconfig",
        "java": "java",
        "javascript": "js jsx mjs cjs",
        "json": "json jsonl ndjson json5 jsonc geojson webmanifest ipynb",
        "julia": "jl",
        "kotlin": "kt kts",
        "latex": "tex sty cls bib",
        "lua": "lua",
        "markdown": "md markdown mdx mdown mkd qmd rmd",
        "nix": "nix",
        "objective-c": "m mm",
        "ocaml": "ml mli",
        "pdf": "pdf",
        "perl": "pl pm t",
        "php": "php phtml",
        "powershell": "ps1 psm1 psd1",
        "protobuf": "proto",
        "python": "py pyi pyw pyx pxd",
        "r": "r",
        "restructuredtext": "rst",
        "ruby": "rb rake gemspec",
        "rust": "rs",
        "scala": "scala sc sbt",
        "sql": "sql ddl dml",
        "svelte": "svelte",
        "swift": "swift",
        "text": "txt text log adoc asciidoc org",
        "toml": "toml",
        "tsx": "tsx",
        "typescript": "ts mts cts",
        "vue": "vue",
        "xml": "xml xsd xsl xslt svg plist",
        "yaml": "yaml yml",
        "zig": "zig",
    }.items()
    for suffix in suffixes.split()
}
_BY_NAME: dict[str, str] = {
    ".bash_profile": "bash",
    ".bashrc": "bash",
    ".profile": "bash",
    ".zshrc": "bash",
    "apkbuild": "bash",
    "brewfile": "ruby",
    "build.bazel": "python",
    "cmakelists.txt": "cmake",
    "dockerfile": "dockerfile",
    "gemfile": "ruby",
    "gnumakefile": "makefile",
    "go.mod": "go.mod",
    "jenkinsfile": "groovy",
    "justfile": "makefile",
    "license": "text",
    "makefile": "makefile",
    "pkgbuild": "bash",
    "rakefile": "ruby",
    "readme": "text",
    "sconscript": "python",
    "sconstruct": "python",
    "snakefile": "python",
    "vagrantfile": "ruby",
}

PROSE = frozenset({"markdown", "restructuredtext", "text", "latex", "csv", "html", "pdf", None})
"""Languages in which long lines and the words "do not edit" are nothing unusual."""


def language_of(name: str) -> str | None:
    """Name the language of a file, or None when its name tells nothing.

    Args:
        name: The last part of its path.
    """
    lowered = name.lower()
    known = _BY_NAME.get(lowered)
    if known is not None:
        return known
    stem, dot, suffix = lowered.rpartition(".")
    if dot and stem:
        return _BY_SUFFIX.get(suffix)
    # Dockerfile.dev has the suffix of no language; Makefile.am likewise.
    return None
