"""Tell by its name what language a file is in, and whether it is worth opening."""

from __future__ import annotations

import re
from typing import Literal

INDEX_FOLDER = ".merganser"
"""The folder beside a config that holds its indexes; folders of this name are never indexed."""

_BY_SUFFIX: dict[str, str] = {
    suffix: language
    for language, suffixes in {
        "ada": "adb ads",
        "astro": "astro",
        "bash": "sh bash bats ksh ebuild",
        "bicep": "bicep",
        "c": "c h",
        "clojure": "clj cljs cljc edn",
        "cmake": "cmake",
        "commonlisp": "lisp lsp asd",
        "cpp": "cc cpp cxx c++ hh hpp hxx h++ ipp tpp inl ino",
        "csharp": "cs csx",
        "css": "css less",
        "csv": "csv tsv",
        "cuda": "cu cuh",
        "d": "d di",
        "dart": "dart",
        "doc": "doc dot",
        "docx": "docx docm dotx dotm",
        "elisp": "el",
        "elixir": "ex exs",
        "elm": "elm",
        "epub": "epub",
        "erlang": "erl hrl",
        "fish": "fish",
        "fortran": "f f90 f95 f03 f08 for ftn",
        "fsharp": "fs fsi fsx",
        "gdscript": "gd",
        "gleam": "gleam",
        "glsl": "glsl vert frag comp geom tesc tese",
        "go": "go",
        "graphql": "graphql gql",
        "groovy": "groovy gradle",
        "haskell": "hs lhs",
        "haxe": "hx",
        "hcl": "tf tfvars hcl",
        "hlsl": "hlsl fx hlsli",
        "html": "html htm xhtml",
        "ini": "ini cfg conf properties editorconfig",
        "java": "java",
        "javascript": "js jsx mjs cjs",
        "json": "json jsonl ndjson json5 jsonc geojson webmanifest",
        "julia": "jl",
        "kotlin": "kt kts",
        "latex": "tex sty cls bib",
        "lua": "lua",
        "luau": "luau",
        "makefile": "mk mak",
        "markdown": "md markdown mdx mdown mkd qmd rmd",
        "nim": "nim nims",
        "nix": "nix",
        "notebook": "ipynb",
        "objective-c": "m mm",
        "ocaml": "ml",
        "ocaml-interface": "mli",
        "odin": "odin",
        "odp": "odp otp fodp odg",
        "ods": "ods ots fods",
        "odt": "odt ott fodt",
        "pascal": "pas dpr lpr",
        "pdf": "pdf",
        "perl": "pl pm t",
        "php": "php phtml",
        "ppt": "ppt pps",
        "pptx": "pptx pptm ppsx ppsm potx potm",
        "powershell": "ps1 psm1 psd1",
        "prisma": "prisma",
        "protobuf": "proto",
        "puppet": "pp",
        "purescript": "purs",
        "python": "py pyi pyw pyx pxd",
        "r": "r",
        "rego": "rego",
        "restructuredtext": "rst",
        "rtf": "rtf",
        "ruby": "rb rake gemspec",
        "rust": "rs",
        "scala": "scala sc sbt",
        "scheme": "scm ss",
        "scss": "scss sass",
        "solidity": "sol",
        "sql": "sql ddl dml",
        "starlark": "bzl star",
        "svelte": "svelte",
        "swift": "swift",
        "tcl": "tcl",
        "text": "txt text log adoc asciidoc org",
        "thrift": "thrift",
        "toml": "toml",
        "tsx": "tsx",
        "typescript": "ts mts cts",
        "typst": "typ",
        "verilog": "v vh sv svh",
        "vhdl": "vhd vhdl",
        "vim": "vim",
        "vue": "vue",
        "wgsl": "wgsl",
        "xls": "xls xlt xlsb",
        "xlsx": "xlsx xlsm xltx xltm",
        "xml": "xml xsd xsl xslt svg plist",
        "yaml": "yaml yml",
        "zig": "zig",
    }.items()
    for suffix in suffixes.split()
}
_BY_NAME: dict[str, str] = {
    name: language
    for language, names in {
        "bash": ".bash_profile .bashrc .profile .zshrc apkbuild pkgbuild",
        "cmake": "cmakelists.txt",
        "dockerfile": "dockerfile",
        "go.mod": "go.mod",
        "groovy": "jenkinsfile",
        "just": "justfile",
        "makefile": "gnumakefile makefile",
        "python": "sconscript sconstruct snakefile",
        "starlark": "build.bazel module.bazel",
        "ruby": "brewfile gemfile rakefile vagrantfile",
        "text": "license readme",
    }.items()
    for name in names.split()
}
_BINARY_SUFFIXES = frozenset(
    suffix
    for suffixes in (
        # code that was compiled, and packages of it
        "a class dll dylib exe jar lib o obj pdb pyc pyd pyo so war wasm whl egg deb rpm apk",
        # archives and disk images
        "7z bz2 gz iso lz4 rar tar tgz xz zip zst dmg img",
        # pictures, sound, film, fonts
        "avif bmp gif heic icns ico jpeg jpg png psd tif tiff webp",
        "aac avi flac m4a mkv mov mp3 mp4 ogg wav webm eot otf ttf woff woff2",
        # data and models
        "arrow bin db db3 duckdb feather gguf h5 joblib npy npz onnx parquet pickle pkl pt pth",
        "safetensors sqlite sqlite3 tflite mmdb rdb",
        # keys and caches
        "der jks keystore p12 pfx gpg mo dat swp",
    )
    for suffix in suffixes.split()
)
_LOCK_FILES = frozenset(
    name
    for names in (
        "bun.lock bun.lockb cargo.lock composer.lock deno.lock flake.lock gemfile.lock go.sum",
        "go.work.sum gradle.lockfile mix.lock npm-shrinkwrap.json package-lock.json",
        "packages.lock.json paket.lock pdm.lock pipfile.lock pixi.lock pnpm-lock.yaml poetry.lock",
        "podfile.lock pubspec.lock uv.lock yarn.lock .terraform.lock.hcl module.bazel.lock",
    )
    for name in names.split()
)
_MINIFIED_NAME = re.compile(r"[.-]min\.(?:js|mjs|cjs|css)$|\.(?:js|css)\.map$")

OFFICE = frozenset(
    {"doc", "docx", "epub", "odp", "ods", "odt", "ppt", "pptx", "rtf", "xls", "xlsx"}
)
"""Office documents and books, which one reader takes; what a file is, its bytes say."""

PROSE = OFFICE | frozenset(
    {"markdown", "restructuredtext", "text", "latex", "csv", "html", "notebook", "pdf", None}
)
"""Languages in which long lines and the words "do not edit" are nothing unusual."""


def language_of(name: str) -> str | None:
    """Return the language of a file, or None when its name says nothing.

    Args:
        name: The last part of its path.

    >>> language_of("Makefile"), language_of("a.tsx"), language_of("Dockerfile.dev")
    ('makefile', 'tsx', None)
    """
    lowered = name.lower()
    stem, _, suffix = lowered.rpartition(".")
    return _BY_NAME.get(lowered) or (_BY_SUFFIX.get(suffix) if stem else None)


def refuse_by_name(name: str) -> tuple[Literal["binary", "generated", "minified"], str] | None:
    """Return why a file is not worth opening, with what was seen; None when it may be.

    Args:
        name: The last part of its path.

    >>> refuse_by_name("logo.png"), refuse_by_name("uv.lock"), refuse_by_name("a.py")
    (('binary', 'by its name'), ('generated', 'a lock file'), None)
    """
    lowered = name.lower()
    if lowered in _LOCK_FILES:
        return "generated", "a lock file"
    if lowered.rpartition(".")[2] in _BINARY_SUFFIXES and "." in lowered:
        return "binary", "by its name"
    if lowered.endswith((".js", ".mjs", ".cjs", ".css", ".map")) and _MINIFIED_NAME.search(lowered):
        return "minified", "by its name"
    return None
