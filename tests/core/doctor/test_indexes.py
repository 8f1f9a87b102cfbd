"""What the doctor says of an index folder, healthy or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from merganser.doctor.indexes import IndexDiagnosis, diagnose_index

if TYPE_CHECKING:
    from tests.core.conftest import Corpus


def details(found: IndexDiagnosis) -> dict[str, tuple[str, str]]:
    return {check.name: (check.level, check.detail) for check in found.checks}


def test_an_index_that_is_not_there_yet_is_worth_a_note(corpus: Corpus):
    found = diagnose_index(corpus.definition)

    assert found.healthy
    assert details(found)["index code"][0] == "note"
    assert not corpus.folder.exists()


def test_a_served_snapshot_tells_its_age_and_what_is_kept(corpus: Corpus):
    corpus.write("a.md", "one")
    corpus.index()
    corpus.write("b.md", "two")
    corpus.index()

    found = diagnose_index(corpus.definition, now=datetime.now(UTC) + timedelta(days=3))

    seen = details(found)
    assert found.healthy
    assert seen["index code"] == ("ok", "snapshot 2 is 3 days old, 2 files, 2 chunks; 2 kept")
    assert seen["last run code"][1].startswith("published at ")


def test_a_foreign_file_is_a_problem_and_is_left_alone(corpus: Corpus):
    corpus.folder.parent.mkdir()
    corpus.folder.write_bytes(b"SQLite format 3\x00")

    found = diagnose_index(corpus.definition)

    assert not found.healthy
    level, detail = details(found)["index code"]
    assert level == "problem"
    assert "SQLite" in detail
    assert details(found)["write permission code"][0] == "problem"
    assert corpus.folder.read_bytes() == b"SQLite format 3\x00"


def test_a_damaged_index_names_the_way_back(corpus: Corpus):
    corpus.write("a.md", "one")
    corpus.index()
    (corpus.folder / "CURRENT").write_text("{")

    found = diagnose_index(corpus.definition)

    assert not found.healthy
    assert any("rollback" in check.detail + check.fix for check in found.checks)


def test_a_graph_that_cannot_be_used_is_named(corpus: Corpus):
    corpus.write("a.md", "one")
    corpus.index()
    (corpus.folder / "s000001.usearch").write_bytes(b"cut off")

    found = diagnose_index(corpus.definition)

    assert found.healthy
    assert "s000001.usearch" in details(found)["approximate graph code"][1]
