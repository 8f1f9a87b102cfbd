"""What every reader of a format keeps to, whoever wrote it; see ``documents.reading``.

A format that is listed in ``FORMATS`` is held to this by being there; it needs a sample in
``reader_samples``. What real programs write is in ``tests/data/documents``, and is read too.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.chunking import ChunkingOptions, chunk_document
from merganser.chunking.places import describe_places, is_within
from merganser.documents.file_types import language_of
from merganser.documents.reading import FORMATS
from merganser.documents.skipping import SKIP_REASONS
from merganser.errors import SkipDocument
from tests.core.documents.reader_samples import SAMPLES
from tests.core.documents.test_pdf import make_pdf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.documents.extracted import Extracted

REAL = [
    path
    for path in sorted(Path(__file__).parents[2].glob("data/documents/*"))
    if language_of(path.name) in FORMATS
]
EVERY = sorted(name for name in FORMATS if name)


def read(name: str, data: bytes | None = None) -> Extracted:
    return FORMATS[name].read(SAMPLES[name].data if data is None else data)


def outcome(name: str, data: bytes) -> str:
    """Return the reason why a file is left out; empty when it is read. All else is a fault."""
    try:
        found = FORMATS[name].read(data)
    except SkipDocument as skip:
        reason, detail = skip.reason, skip.detail
    else:
        check(found)
        return ""
    assert reason in SKIP_REASONS
    assert detail
    return reason


def check(found: Extracted) -> None:
    """Hold the laws of what a reader returns."""
    lines = found.text.count("\n") + 1
    assert [h.start for h in found.headings or ()] == sorted(h.start for h in found.headings or ())
    assert all(0 <= h.start <= len(found.text) and h.level >= 1 for h in found.headings or ())
    starts = [place.line for place in found.places]
    assert starts == sorted(set(starts))
    assert all(1 <= line <= lines for line in starts)
    assert all(unit and "\n" not in str(name) for p in found.places for unit, name in p.steps)
    ends = [0, *(point for stretch in found.embedded for point in stretch[:2]), len(found.text)]
    assert ends == sorted(ends)
    assert "\0" not in found.text
    if found.places:
        first = next(n for n, line in enumerate(found.text.split("\n"), 1) if line.strip())
        assert starts[0] <= first, "all text has a place"


def test_every_format_has_a_sample():
    assert set(EVERY) <= SAMPLES.keys()


@pytest.mark.parametrize("name", EVERY)
def test_the_words_of_a_file_are_found_once_and_at_their_places(name: str):
    found, sample = read(name), SAMPLES[name]

    check(found)
    lines = found.text.split("\n")
    for word, place in sample.places.items():
        [line] = [n for n, text in enumerate(lines, 1) if re.search(rf"\b{word}\b", text)]
        assert describe_places(found.places, line, line) == place
    assert {h.title for h in found.headings or ()} >= set(sample.headings)
    for heading in found.headings or ():
        if heading.title in sample.headings and name != "epub":
            shown = found.text[heading.start :].lstrip("# ")
            assert shown.startswith(heading.title)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("size", [12, 40, 1000])
def test_chunks_lose_nothing_and_bear_the_places_of_their_words(name: str, size: int):
    found, sample = read(name), SAMPLES[name]

    chunks = chunk_document(
        found.text,
        language=name,
        options=ChunkingOptions(size=size, overlap=0, code_aware=True),
        headings=found.headings,
        places=found.places,
        embedded=found.embedded,
    )

    kept = "".join(found.text[chunk.start_char : chunk.end_char] for chunk in chunks)
    assert "".join(kept.split()) == "".join(found.text.split())
    for word, place in sample.places.items():
        [chunk] = [chunk for chunk in chunks if re.search(rf"\b{word}\b", chunk.text)]
        assert is_within(place, chunk.place) if place else not chunk.place


@pytest.mark.parametrize("name", EVERY)
def test_a_file_that_breaks_off_anywhere_has_a_stated_outcome(name: str):
    data = SAMPLES[name].data

    for end in sorted({len(data) * n // 24 for n in range(24)}):
        outcome(name, data[:end])


@pytest.mark.parametrize("name", EVERY)
def test_flipped_bytes_have_a_stated_outcome(name: str):
    chance = random.Random(name)  # noqa: S311 - the same damage each time

    for _ in range(24):
        data = bytearray(SAMPLES[name].data)
        for _ in range(chance.choice([1, 3, 20])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        outcome(name, bytes(data))


@pytest.mark.parametrize("name", EVERY)
def test_what_is_another_format_has_a_stated_outcome(name: str):
    others = [b"", b" \n", b"\0" * 5000, bytes(range(256)) * 40, b"{" * 50_000, b"<" * 50_000]

    for data in [*others, *(sample.data for sample in SAMPLES.values())]:
        outcome(name, data)


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_files_of_real_programs_keep_the_laws_whole_and_broken(path: Path):
    name, data = language_of(path.name) or "", path.read_bytes()
    chance = random.Random(path.name)  # noqa: S311 - as above

    outcome(name, data)
    for share in (0.1, 0.5, 0.9, 0.99):
        outcome(name, data[: int(len(data) * share)])
    for _ in range(6):
        broken = bytearray(data)
        for _ in range(10):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        outcome(name, bytes(broken))


def _encrypted_pdf() -> bytes:
    entry = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O ({'o' * 32}) /U ({'u' * 32}) /P -44 >>"
    plain = make_pdf([["Secret ducks"]])
    return plain.replace(b"/Root 1 0 R", f"/Root 1 0 R {entry} /ID [(a) (a)]".encode())


def test_a_pdf_with_a_password_is_encrypted():
    assert outcome("pdf", _encrypted_pdf()) == "encrypted"


_watched: list[str] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _watched is not None and event.startswith(
        ("socket.connect", "socket.getaddrinfo", "subprocess.", "os.system", "os.exec", "open")
    ):
        _watched.append(f"{event} {arguments[:1]}")


sys.addaudithook(_watch)


@pytest.fixture
def watched() -> Iterator[list[str]]:
    """What this process opens, starts and connects to meanwhile."""
    global _watched  # noqa: PLW0603 - a hook can be had once
    _watched = []
    yield _watched
    _watched = None


HOSTILE_PAGE = (
    '<base href="http://127.0.0.1:9/"><link rel=stylesheet href=a.css><script src=b.js></script>'
    '<img src="http://127.0.0.1:9/c.png"><iframe src="file:///etc/passwd"></iframe>'
    '<object data="file:///etc/passwd"></object><p>alpha'
)


@pytest.mark.parametrize("name", ["html", "notebook"])
def test_what_is_read_in_this_process_opens_nothing(name: str, watched: list[str]):
    page = HOSTILE_PAGE.encode()
    if name == "notebook":
        page = SAMPLES[name].data.replace(
            b'"one\\n', b'"![x](http://127.0.0.1:9/c.png) <img src=file:///etc/passwd>\\n'
        )

    found = read(name, page)

    assert "alpha" in found.text
    assert watched == []
