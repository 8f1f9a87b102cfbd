"""Whether hits still stand in their files, at the time of the query."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.retrieval import freshness
from tests.core.documents.test_pdf import make_pdf

if TYPE_CHECKING:
    import pytest

    from .conftest import Rags

HEAD = "# Birds\n\n" + "".join(f"Line {n} of the introduction.\n" for n in range(12))
CITED = "## Merganser\n\nThe merganser dives for fish.\n"
TAIL = "\n## Geese\n\n" + "".join(f"Line {n} of the geese, which eat grass.\n" for n in range(12))
TEXT = HEAD + CITED + TAIL
START = HEAD.count("\n") + 1

Case = tuple[str, str, int]
CASES: dict[str, Case] = {
    "as it was": (TEXT, "fresh", 0),
    "more behind": (TEXT + "More.\n", "fresh", 0),
    "more in front": (f"A line.\n\n{TEXT}", "fresh", 2),
    "less in front": (TEXT.removeprefix("# Birds\n\n"), "fresh", -2),
    "other line ends": (TEXT.replace("\n", "\r\n"), "fresh", 0),
    "a mark in front of it all": (f"\ufeff{TEXT}", "fresh", 0),
    "spaces at a line's end": (TEXT.replace("fish.\n", "fish.  \n"), "fresh", 0),
    "a word changed": (TEXT.replace("fish", "eels"), "changed", 0),
    "a line grew": (TEXT.replace("for fish.", "for fish. Or so they say."), "changed", 0),
    "a line begins anew": (TEXT.replace("The merg", "No: The merg"), "changed", 0),
    "a line came between": (TEXT.replace("\n\nThe", "\n\nListen.\nThe"), "changed", 0),
    "twice, where it was": (TEXT + CITED, "fresh", 0),
    "twice, elsewhere": (f"New.\n{HEAD}{CITED}\n{CITED}{TAIL}", "changed", 0),
    "cut off": (HEAD, "changed", 0),
    "another file": ("a goose\n", "changed", 0),
    "no text any more": ("\0\0\0", "changed", 0),
}


async def test_the_cited_lines_decide_and_not_the_file(rags: Rags):
    await rags.build({"birds.md": TEXT})
    retriever = rags.open(rags.rag(rags.strategy()))
    path = rags.folder / "birds.md"
    found: dict[str, tuple[str, int]] = {}
    for name, (text, *_) in CASES.items():
        path.write_bytes(text.encode())
        os.utime(path, ns=(1, 1))
        [hit] = (await retriever.search("merganser dives", limit=1)).hits
        found[name] = (hit.freshness, hit.moved)
        assert hit.start_line - hit.moved == START
        assert hit.as_json()["stale"] is (hit.freshness != "fresh")

    assert found == {name: (expected, moved) for name, (_, expected, moved) in CASES.items()}


async def test_only_what_changed_is_read_and_within_bounds(
    rags: Rags, monkeypatch: pytest.MonkeyPatch
):
    await rags.build({"a.md": "a duck\n", "b.md": "a duck, too\n", "c.md": "one more duck\n"})
    read: list[str] = []

    def read_file(path: str, most: int) -> bytes:
        read.append(Path(path).name)
        return Path(path).read_bytes()[: most + 1]

    monkeypatch.setattr(freshness, "read_file", read_file)
    monkeypatch.setattr(freshness, "_MOST_BYTES", 40)
    retriever = rags.open(rags.rag(rags.strategy()))
    await retriever.search("duck")
    untouched = list(read)
    for name in ("a.md", "b.md"):
        (rags.folder / name).write_text("New.\n" * 4 + (rags.folder / name).read_text())
    hits = (await retriever.search("duck")).hits

    assert untouched == []
    assert len(read) == 1  # the other would go beyond the bound
    assert sorted(hit.freshness for hit in hits) == ["changed", "fresh", "fresh"]


async def test_what_is_no_file_with_lines_is_known_by_its_state(rags: Rags):
    rags.write({"gone.md": "a duck\n", "folder.md": "a duck at home\n", "big.md": "a large duck\n"})
    (rags.folder / "birds.pdf").write_bytes(make_pdf([["A duck on a page."]]))
    await rags.build({"pipe.md": "a duck in a pipe\n", "touched.md": "a duck that was touched\n"})
    (rags.folder / "gone.md").unlink()
    for name in ("folder.md", "pipe.md"):
        (rags.folder / name).unlink()
    (rags.folder / "folder.md").mkdir()
    os.mkfifo(rags.folder / "pipe.md")
    os.utime(rags.folder / "touched.md", ns=(1, 1))
    with (rags.folder / "big.md").open("ab") as file:
        file.truncate(1 << 33)
    (rags.folder / "birds.pdf").write_bytes(make_pdf([["A duck on a page."], ["More."]]))

    result = await rags.open(rags.rag(rags.strategy())).search("duck")

    assert {hit.path: hit.freshness for hit in result.hits} == {
        "gone.md": "gone",
        "folder.md": "gone",
        "pipe.md": "gone",
        "touched.md": "fresh",
        "big.md": "changed",
        "birds.pdf": "changed",
    }


async def test_headers_and_marks_are_no_part_of_the_lines(rags: Rags):
    rows = "".join(f"{n},a duck of number {n}\n" for n in range(30))
    token = "ghp_" + "Zq8Lw3Nc5Rt7Yx2Vb9Km4Hd6Fg1Js0Pa8Ue3"
    await rags.build({"rows.csv": f"id,what\n{rows}", "key.md": f"A key:\n{token}\nof a goose.\n"})
    retriever = rags.open(rags.rag(rags.strategy()))
    for name, first in (("rows.csv", "id,what\n"), ("key.md", "")):
        path = rags.folder / name
        path.write_text(path.read_text().replace(first, f"{first}x,y\n", 1))

    rows_found = await retriever.search("duck number 29", limit=1)
    key_found = await retriever.search("goose", limit=1)

    assert [(hit.freshness, hit.moved) for hit in rows_found.hits] == [("fresh", 1)]
    assert [(hit.freshness, hit.moved) for hit in key_found.hits] == [("fresh", 1)]
    assert token not in key_found.hits[0].text
    assert key_found.notes == (
        "key.md changed elsewhere since it was indexed: run `merganser index`",
    )
