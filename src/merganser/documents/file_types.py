"""Tell by its name what language a file is in, and whether it is worth opening."""

from __future__ import annotations

import re

INDEX_FOLDER = ".merganser"
"""The folder beside a config that holds its indexes; folders of this name are never indexed."""

_BY_SUFFIX: dict[str, str] = {
    suffix: language
    for language, suffixes in {
        "ada": "adb ads",
        "agda": "agda",
        "applescript": "applescript",
        "assembly": "asm nasm s",
        "astro": "astro",
        "awk": "awk gawk",
        "asciidoc": "adoc asciidoc asc",
        "autohotkey": "ahk",
        "bash": "sh bash bats ksh zsh ebuild",
        "batch": "bat cmd",
        "bicep": "bicep",
        "c": "c h",
        "capnproto": "capnp",
        "clojure": "clj cljs cljc edn",
        "cmake": "cmake",
        "cobol": "cbl cob",
        "coffeescript": "coffee",
        "commonlisp": "lisp lsp asd",
        "cpp": "cc cpp cxx c++ hh hpp hxx h++ ipp tpp inl ino",
        "crystal": "cr",
        "csharp": "cs csx",
        "css": "css less",
        "csv": "csv tsv",
        "cuda": "cu cuh",
        "cue": "cue",
        "d": "d di",
        "dart": "dart",
        "dhall": "dhall",
        "doc": "doc",
        "dockerfile": "dockerfile containerfile",
        "docx": "docx docm dotx dotm",
        "elisp": "el",
        "elixir": "ex exs",
        "elm": "elm",
        "epub": "epub",
        "erlang": "erl hrl",
        "fish": "fish",
        "fortran": "f f90 f95 f03 f08 for ftn",
        "fsharp": "fs fsi fsx",
        "gap": "gap",
        "gdscript": "gd",
        "gleam": "gleam",
        "glsl": "glsl vert frag comp geom tesc tese",
        "go": "go",
        "graphql": "graphql gql",
        "graphviz": "dot gv",
        "groovy": "groovy gradle",
        "haml": "haml",
        "handlebars": "handlebars hbs mustache",
        "haskell": "hs lhs",
        "haxe": "hx",
        "hcl": "tf tfvars hcl",
        "hlsl": "hlsl fx hlsli",
        "html": "html htm xhtml",
        "idris": "idr",
        "ini": "ini cfg conf properties editorconfig",
        "java": "java",
        "javascript": "js jsx mjs cjs",
        "json": "json json5 jsonc geojson webmanifest",
        "jsonl": "jsonl ndjson",
        "jsonnet": "jsonnet libsonnet",
        "julia": "jl",
        "kotlin": "kt kts",
        "latex": "tex sty cls bib",
        "lean": "lean",
        "liquid": "liquid",
        "lua": "lua",
        "luau": "luau",
        "makefile": "mk mak",
        "markdown": "md markdown mdx mdc mdown mkd qmd rmd",
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
        "org": "org",
        "pdf": "pdf",
        "perl": "pl pm t",
        "php": "php phtml",
        "ppt": "ppt pps",
        "pptx": "pptx pptm ppsx ppsm potx potm",
        "powershell": "ps1 psm1 psd1",
        "prisma": "prisma",
        "protobuf": "proto",
        "pug": "jade pug",
        "puppet": "pp",
        "purescript": "purs",
        "python": "py pyi pyw pyx pxd",
        "qml": "qml",
        "r": "r",
        "racket": "rkt",
        "raku": "raku rakumod",
        "razor": "cshtml razor",
        "rego": "rego",
        "rescript": "res resi",
        "restructuredtext": "rst rest",
        "rtf": "rtf",
        "rpmspec": "spec",
        "ruby": "rb rake gemspec",
        "rust": "rs",
        "scala": "scala sc sbt",
        "scheme": "scm ss",
        "scss": "scss sass",
        "smalltalk": "st",
        "solidity": "sol",
        "sql": "sql ddl dml",
        "standardml": "sml",
        "starlark": "bzl star",
        "stylus": "styl",
        "svelte": "svelte",
        "swift": "swift",
        "tcl": "tcl",
        "text": "txt text log",
        "thrift": "thrift",
        "toml": "toml",
        "troff": "man mdoc roff",
        "tsx": "tsx",
        "twig": "twig",
        "typescript": "ts mts cts",
        "typst": "typ",
        "vala": "vala",
        "verilog": "v vh sv svh",
        "vhdl": "vhd vhdl",
        "vim": "vim",
        "visualbasic": "bas vb vbs",
        "vue": "vue",
        "webassembly": "wat wast",
        "wgsl": "wgsl",
        "xls": "xls xlt xlsb",
        "xlsx": "xlsx xlsm xltx xltm",
        "xml": "xml xsd xsl xslt svg plist csproj fsproj vbproj vcxproj props targets slnx nuspec",
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
        "dockerfile": "containerfile dockerfile",
        "go.mod": "go.mod",
        "groovy": "jenkinsfile",
        "ini": (
            ".coveragerc .editorconfig .flake8 .gitconfig .gitmodules .hgrc .npmrc .pylintrc"
            " pylintrc"
        ),
        "json": (
            ".arcconfig .babelrc .eslintrc .jscsrc .jshintrc .lintstagedrc .prettierrc .stylelintrc"
            " .swcrc .watchmanconfig"
        ),
        "just": "justfile",
        "makefile": "gnumakefile makefile",
        "python": "sconscript sconstruct snakefile",
        "starlark": "build.bazel module.bazel",
        "ruby": "brewfile gemfile rakefile vagrantfile",
        "text": "license readme",
        "toml": "pipfile",
        "xml": "app.config nuget.config packages.config web.config",
        "yaml": ".clang-format .clang-tidy .clangd .yamllint",
    }.items()
    for name in names.split()
}
_BY_FIRST_PART = {
    name: _BY_NAME[name] for name in ("containerfile", "dockerfile", "jenkinsfile", "makefile")
}
"""What also stands in front of a word of the project's own: ``Dockerfile.release``."""
_BINARY_SUFFIXES = frozenset(
    suffix
    for suffixes in (
        # code that was compiled, and packages of it
        "class dll dylib exe jar pyc pyd pyo so war wasm whl egg deb rpm apk",
        # archives and disk images
        "7z bz2 gz iso lz4 rar tar tgz xz zip zst dmg",
        # pictures, sound, film, fonts
        "avif bmp gif heic icns ico jpeg jpg png psd tif tiff webp",
        "aac avi flac m4a mkv mov mp3 mp4 ogg wav webm eot otf ttf woff woff2",
        # data and models
        "db3 duckdb feather gguf h5 joblib npy npz onnx parquet pickle",
        "safetensors sqlite sqlite3 tflite mmdb rdb",
        # keys and caches
        "der jks keystore p12 pfx gpg swp",
    )
    for suffix in suffixes.split()
)
# Not among them: a arrow bin dat db img key lib m mo o obj pdb pkl pt pth t and others that text
# files have too (Wavefront, Modelica, Zope, proteins, Pkl). Their content decides, which is
# remembered.
_TEMPLATE_SUFFIXES = frozenset(
    ("in", "tmpl", "tpl", "template", "j2", "jinja", "jinja2", "erb", "dist", "example", "sample")
)
"""What stands behind the name of the file that is made of a template or a sample."""
_COPY = re.compile(
    r"(?:~|\.(?:bak|backup|old|orig|save|saved|dpkg-\w+|ucf-\w+|rpm(?:save|new|orig)))+$"
)
"""What editors, patches and package managers put behind the name of a file that they keep."""
_MINIFIED_NAME = re.compile(r"[.-]min\.(?:js|mjs|cjs|css)$|\.(?:js|css)\.map$")

OFFICE = frozenset(
    {"doc", "docx", "epub", "odp", "ods", "odt", "ppt", "pptx", "rtf", "xls", "xlsx"}
)
"""Office documents and books, which one reader takes; what a file is, its bytes say."""

PROSE = OFFICE | frozenset(
    {
        "markdown",
        "restructuredtext",
        "asciidoc",
        "org",
        "text",
        "troff",
        "latex",
        "csv",
        "html",
        "notebook",
        "pdf",
        None,
    }
)
"""Languages in which long lines and the words "do not edit" are nothing unusual."""


_EXTRACTED = OFFICE | {"html", "notebook", "pdf"}


def language_of(name: str) -> str | None:
    """Return the language of a file, or None when its name says nothing.

    Args:
        name: The last part of its path.

    >>> [language_of(name) for name in ("Makefile", "a.tsx", "a.fish.in", "b.sh~")]
    ['makefile', 'tsx', 'fish', 'bash']
    """
    lowered = original_name(name.lower())
    stem, _, suffix = lowered.rpartition(".")
    known = _BY_NAME.get(lowered) or (_BY_SUFFIX.get(suffix) if stem else None)
    if known:
        return known
    if suffix not in _TEMPLATE_SUFFIXES:
        return _BY_FIRST_PART.get(lowered.partition(".")[0])
    # Only as source: the readers of formats take what the template makes, not the template.
    made = language_of(stem)
    return None if made in _EXTRACTED else made


def original_name(name: str) -> str:
    """Return the name of the file of which this one is kept as a copy, else the name itself.

    >>> original_name("sshd.conf.dpkg-old"), original_name("a.py.orig"), original_name(".bak")
    ('sshd.conf', 'a.py', '.bak')
    """
    return (_COPY.sub("", name) or name) if name[-1:] in _LAST_OF_COPIES else name


_LAST_OF_COPIES = frozenset("~kpdgetw")  # a search of the expression for each name costs more

_INTERPRETERS: dict[str, str] = {
    name: language
    for language, names in {
        "awk": "awk gawk mawk nawk",
        "bash": "ash bash dash ksh mksh sh zsh",
        "commonlisp": "sbcl",
        "elixir": "elixir iex",
        "erlang": "escript",
        "fish": "fish",
        "groovy": "groovy",
        "haskell": "runghc runhaskell stack",
        "javascript": "bun node nodejs qjs",
        "julia": "julia",
        "kotlin": "kotlin",
        "lua": "lua luajit",
        "makefile": "make gmake",
        "ocaml": "ocaml",
        "perl": "perl",
        "php": "php",
        "powershell": "pwsh",
        "python": "pypy python uv",
        "r": "rscript",
        "ruby": "jruby macruby ruby",
        "scala": "scala",
        "scheme": "guile",
        "swift": "swift",
        "tcl": "expect tclsh wish",
        "typescript": "deno ts-node tsx",
    }.items()
    for name in names.split()
}
_FIRST_LINE = re.compile(
    r"#!\s*(?:\S*/env\s+(?:-\S*\s+|\w+=\S*\s+)*)?(?P<program>\S+)|\s*<\?xml\s(?P<xml>)"
    r"|#(?P<zsh>compdef|autoload)\b|(?P<troff>[.'](?:\\\"|(?:TH|Dd|DT|so|SH|nh|ad|de|ds|ie|if|nr|tr)(?:\s|$)))"
    r"|.{0,80}-\*-\s*(?:.*;\s*)?(?:mode:\s*)?(?P<mode>[\w+-]+)\s*(?:;.*)?-\*-"
)


def language_of_text(text: str) -> str | None:
    r"""Return the language that the first line of a file says, or None.

    It counts where the name says nothing: ``#!`` and its interpreter, completions of zsh, XML,
    manual pages, the mode for Emacs.

    >>> language_of_text("#!/usr/bin/env -S python3.12 -u\n"), language_of_text("<?xml v='1'?>")
    ('python', 'xml')
    """
    said = _FIRST_LINE.match(text[:200].partition("\n")[0])
    if said is None:
        return None
    if said["program"]:
        name = said["program"].rpartition("/")[2].lower()
        return _INTERPRETERS.get(name) or _INTERPRETERS.get(name.rstrip("0123456789.-"))
    if said["mode"]:
        mode = said["mode"].lower()
        return mode if mode in _BY_SUFFIX.values() else _INTERPRETERS.get(mode)
    return "bash" if said["zsh"] else "troff" if said["troff"] else "xml"


def is_binary_name(name: str) -> bool:
    """Return whether no text has such a name, so that the file is not worth opening.

    >>> is_binary_name("logo.PNG"), is_binary_name("mesh.obj"), is_binary_name("png")
    (True, False, False)
    """
    stem, _, suffix = name.lower().rpartition(".")
    return bool(stem) and suffix in _BINARY_SUFFIXES


def is_minified_name(name: str) -> bool:
    """Return whether bundlers give such names to what they make.

    >>> is_minified_name("app.min.js"), is_minified_name("min.js")
    (True, False)
    """
    lowered = name.lower()
    return lowered.endswith((".js", ".mjs", ".cjs", ".css", ".map")) and bool(
        _MINIFIED_NAME.search(lowered)
    )
