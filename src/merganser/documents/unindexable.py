"""Tell what is not worth indexing, by name before a file is opened and by text after.

Each answer is a reason with what was seen, for the report. When in doubt a file is indexed: a
missing document costs more than a useless one.
"""

from __future__ import annotations

import re
from typing import Literal

from merganser.documents.languages import PROSE

Unindexable = tuple[Literal["binary", "empty", "generated", "minified"], str]

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
        # documents that are no text, and that nothing here reads
        "doc docx odt ppt pptx xls xlsx",
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

# Markers count in comments near the top; prose may say anything.
_HEAD_CHARACTERS = 2000
_HEAD_LINES = 20
_COMMENT = re.compile(r"\s*(?:#|//|/\*|\*|--|;|%|<!--|\"\"\"|''')")
_MARKERS = re.compile(
    r"(?<![`\w])@"
    r"generated\b|(?<![`\"'\w])DO NOT "
    r"(?:EDIT|MODIFY)\b"
    r"|(?i:\bgenerated\b.*\bdo not (?:edit|modify|change)\b)"
)
# Lines of hand-written code are 30 to 40 characters on average, of data tables some 200. Bundlers
# put all on one line or break at 500 (esbuild, uglify: 32,000).
_MEAN_LINE = 400
_MIN_MINIFIED = 5_000
# What has hardly any white space is no prose either: base64, hex, one long list.
_MEAN_PROSE_LINE = 5_000
_MIN_SPACES = 0.04


def name_reason(name: str) -> Unindexable | None:
    """Judge a file by the last part of its path; None when nothing speaks against it."""
    lowered = name.lower()
    if lowered in _LOCK_FILES:
        return "generated", "a lock file"
    if lowered.rpartition(".")[2] in _BINARY_SUFFIXES and "." in lowered:
        return "binary", "by its name"
    if lowered.endswith((".js", ".mjs", ".cjs", ".css", ".map")) and _MINIFIED_NAME.search(lowered):
        return "minified", "by its name"
    return None


def text_reason(text: str, language: str | None) -> Unindexable | None:
    """Judge a file by what it holds; None when nothing speaks against it.

    Args:
        text: The decoded file.
        language: As in ``Document.language``.
    """
    if not text or text.isspace():
        return "empty", "only white space"
    if language not in PROSE and (line := _generated_line(text[:_HEAD_CHARACTERS])):
        return "generated", line
    return _minified(text, language)


def _generated_line(head: str) -> str | None:
    """Find a comment that says a program wrote the file."""
    lowered = head.lower()  # two searches for words cost a tenth of one for the expression
    if "generated" not in lowered and "do not" not in lowered:
        return None
    for line in head.split("\n", _HEAD_LINES)[:_HEAD_LINES]:
        if _MARKERS.search(line) and _COMMENT.match(line):
            return line.strip()[:100]
    return None


def _minified(text: str, language: str | None) -> Unindexable | None:
    """Tell whether the lines are too long to be anyone's."""
    if len(text) < _MIN_MINIFIED:
        return None
    mean = len(text) / (text.count("\n") + 1)
    if mean <= _MEAN_LINE:
        return None
    seen = f"{mean:,.0f} characters a line"
    if language not in PROSE:
        return "minified", seen
    spaces = text.count(" ") / len(text)
    if mean > _MEAN_PROSE_LINE and spaces < _MIN_SPACES and text.isascii():
        return "minified", f"{seen}, hardly any space"
    return None
