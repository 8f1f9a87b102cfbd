"""Connections of the writer: bounded memory, and what exceeds it goes where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.store import database as schema

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_writer_that_needs_more_memory_spills_into_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, spill = tmp_path / "here", tmp_path / "spill"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(schema, "WRITER_MEMORY", "32MB")

    with schema.connect_writer(spill) as connection:
        connection.execute(
            "CREATE TABLE big AS SELECT hash(i) AS h FROM range(8_000_000) numbers(i)"
        ).fetchall()
        used = connection.execute("SELECT sum(size) FROM duckdb_temporary_files()").fetchall()

        assert used[0][0] > 0
        assert list(spill.iterdir())
    assert not list(here.iterdir())
