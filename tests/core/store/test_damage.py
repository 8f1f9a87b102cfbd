"""Kinds of damage: each is found by ``verify``, and each is repaired or told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import duckdb
import pytest

from merganser.cli import main
from merganser.errors import DamagedIndexError, MerganserError, NoSnapshotError
from merganser.store.folder import IndexFolder
from merganser.store.reader import open_snapshot
from merganser.store.repair import repair_files
from merganser.store.snapshots import list_snapshots
from merganser.store.verification import verify_index
from tests.core.conftest import Corpus, HashEmbedder, make_definition, settle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_HEADER, _BLOCK = 12_288, 262_144  # of a DuckDB file


class Rig:
    """An index of three segments and two snapshots, with all that a folder can hold.

    The files of ``old/`` are in the first segment, which is too large to be rewritten by an edit.
    """

    def __init__(self, root: Path) -> None:
        self.corpus = Corpus(root, make_definition(root))
        for n in range(40):
            body = "\n".join(f"def f_{n}_{i}(x):\n    return x * {i} + {n}\n" for i in range(40))
            self.corpus.write(f"old/m{n:02d}.py", body)
        settle()
        self.corpus.index()
        self.backup = root.parent / f"{root.name}-backup"
        shutil.copytree(self.folder, self.backup)
        for n in range(2):
            self.corpus.write(f"new/n{n}.py", f"def g_{n}(y):\n    return y - {n}\n")
            settle()
            self.corpus.index()
        self._leave_journal()
        self.corpus.embedded()
        self.rows = self.corpus.rows()

    @property
    def folder(self) -> Path:
        return self.corpus.folder

    @property
    def segments(self) -> list[Path]:
        """The served segments, the largest first."""
        with open_snapshot(self.folder) as snapshot:
            rows = sorted(snapshot.segments, key=lambda row: -row.row_count)
            return [self.folder / row.file for row in rows]

    @property
    def catalogue(self) -> Path:
        with open_snapshot(self.folder) as snapshot:
            return self.folder / f"g{snapshot.generation:06d}.duckdb"

    @property
    def journal(self) -> Path:
        [path] = self.folder.glob("embeddings/*/*.npz")
        return path

    def _leave_journal(self) -> None:
        """Leave what a run that died had paid for; the file is gone again."""
        path = self.corpus.write("new/late.py", "def late(z):\n    return z\n")
        settle()
        with suppress(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
            patch.setattr("merganser.indexing.run.confirm_run", _die)
            self.corpus.index()
        path.unlink()
        settle()


async def _die(*_: object) -> None:
    raise KeyboardInterrupt


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(content)


def _swap(one: Path, other: Path) -> None:
    other.rename(other.with_name("x"))
    one.rename(other)
    other.with_name("x").rename(one)


def _foreign(rig: Rig) -> Rig:
    root = rig.corpus.root.parent / "foreign"
    root.mkdir()
    return Rig(root)


def _change_by_sql(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


def _leave_wal(path: Path) -> None:
    """Change a file as another program does that is killed."""
    code = (
        "import duckdb, os, sys\n"
        "c = duckdb.connect(sys.argv[1], config={'checkpoint_threshold': '1GB'})\n"
        "c.execute(\"UPDATE chunks SET text = 'not what was indexed' WHERE row < 5\")\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert path.with_name(path.name + ".wal").exists()


def _write_current(rig: Rig, **changes: object) -> None:
    path = rig.folder / "CURRENT"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


KINDS: dict[str, Callable[[Rig], object]] = {
    "a byte of a segment's header": lambda r: _flip(r.segments[0], 5_000),
    "a byte of a segment's first block": lambda r: _flip(r.segments[0], _HEADER + 999),
    "a byte in the middle of a segment": lambda r: _flip(
        r.segments[0], r.segments[0].stat().st_size // 2
    ),
    "a byte of a segment's last block": lambda r: _flip(
        r.segments[0], r.segments[0].stat().st_size - _BLOCK + 5_000
    ),
    "a segment cut off": lambda r: _cut(r.segments[0], _HEADER + _BLOCK),
    "a segment of zeros": lambda r: _zero(r.segments[0]),
    "an empty segment": lambda r: _cut(r.segments[0], 0),
    "a missing segment": lambda r: r.segments[0].unlink(),
    "a missing small segment": lambda r: r.segments[-1].unlink(),
    "all segments missing": lambda r: [path.unlink() for path in r.segments],
    "a foreign segment": lambda r: shutil.copy(_foreign(r).segments[0], r.segments[0]),
    "two segments swapped": lambda r: _swap(r.segments[0], r.segments[1]),
    "a segment with a text changed by SQL": lambda r: _change_by_sql(
        r.segments[0], "UPDATE chunks SET text = 'x' WHERE row = 3", "CHECKPOINT"
    ),
    "a log beside a segment": lambda r: _leave_wal(r.segments[0]),
    "a folder in place of a segment": lambda r: _replace_by_folder(r.segments[0]),
    "a byte of the served catalogue": lambda r: _flip(r.catalogue, _HEADER + 300),
    "an empty catalogue": lambda r: _cut(r.catalogue, 0),
    "a missing catalogue": lambda r: r.catalogue.unlink(),
    "a segment in place of the catalogue": lambda r: shutil.copy(r.segments[0], r.catalogue),
    "an older catalogue copied over the served one": lambda r: shutil.copy(
        r.folder / "g000002.duckdb", r.catalogue
    ),
    "all catalogues missing": lambda r: [p.unlink() for p in r.folder.glob("g*.duckdb")],
    "CURRENT cut off": lambda r: _cut(r.folder / "CURRENT", 20),
    "CURRENT missing": lambda r: (r.folder / "CURRENT").unlink(),
    "CURRENT with a number changed": lambda r: _write_current(r, next_segment=1),
    "CURRENT that points nowhere": lambda r: _write_current(
        r, generation=77, kept=[77], marks={}, checksum=None
    ),
    "a journal cut off": lambda r: _cut(r.journal, 100),
    "a byte of a journal": lambda r: _flip(r.journal, r.journal.stat().st_size // 3),
    "a journal's model unknown": lambda r: (r.journal.parent / "canaries").unlink(),
    "a history of garbage": lambda r: (r.folder / "history.duckdb").write_bytes(b"garbage" * 99),
    "a byte of the history": lambda r: _flip(r.folder / "history.duckdb", _HEADER + 70),
    "a scan cache of garbage": lambda r: (r.folder / "observed.json").write_text("{"),
    "half a copy": lambda r: [p.unlink() for p in sorted(r.folder.glob("[gs]*.duckdb"))[::2]],
}
"""What is done to an index, by name."""

_NEEDS_NO_READING = ("missing", "cut off", "empty", "swapped", "foreign", "log", "folder", "half")


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """The index that the cases damage copies of."""
    root = tmp_path_factory.mktemp("damage") / "tree"
    root.mkdir()
    return Rig(root)


@pytest.fixture
def rig(master: Rig, tmp_path: Path) -> Rig:
    root = tmp_path / "tree"
    shutil.copytree(master.corpus.root, root)
    shutil.copytree(master.backup, tmp_path / "tree-backup")
    rig = Rig.__new__(Rig)
    rig.corpus = Corpus(root, make_definition(root), HashEmbedder())
    rig.backup = tmp_path / "tree-backup"
    rig.rows = master.rows
    settle()
    return rig


@pytest.mark.proof(sample=8)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_damage_is_found_and_repaired(rig: Rig, kind: str):
    assert verify_index(rig.folder, read_data=True).faults == []
    KINDS[kind](rig)

    found = verify_index(rig.folder, read_data=True)
    assert found.faults, kind
    if any(word in kind for word in _NEEDS_NO_READING):
        assert verify_index(rig.folder, read_data=False).faults, kind

    mended = repair_files(rig.folder)
    if mended.needs_run:
        rig.corpus.index(repair=True)
    assert verify_index(rig.folder, read_data=True).faults == []
    assert rig.corpus.index().status in {"unchanged", "published"}
    assert rig.corpus.rows() == rig.rows


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("a byte of the served catalogue", 0),
        ("all catalogues missing", 0),
        ("CURRENT missing", 0),
        ("a missing small segment", 1),
        ("a byte in the middle of a segment", 0),
    ],
)
def test_a_repair_embeds_only_what_is_gone(rig: Rig, kind: str, most: int):
    KINDS[kind](rig)

    mended = repair_files(rig.folder)
    if mended.needs_run:
        rig.corpus.index(repair=True)

    assert len(rig.corpus.embedded()) <= most
    assert rig.corpus.rows() == rig.rows


@pytest.mark.parametrize(
    "kind",
    [
        "a missing segment",
        "a segment cut off",
        "a foreign segment",
        "two segments swapped",
        "a log beside a segment",
        "an older catalogue copied over the served one",
        "CURRENT that points nowhere",
    ],
)
def test_damage_is_told_by_search_and_by_index_which_never_says_unchanged(rig: Rig, kind: str):
    KINDS[kind](rig)

    for use in (rig.corpus.open, rig.corpus.index):
        with pytest.raises(DamagedIndexError, match=r"merganser repair FILE"):
            use()


def test_an_older_segment_copied_back_is_noticed(rig: Rig):
    [old] = rig.backup.glob("s*.duckdb")
    assert old.name == rig.segments[0].name
    rig.corpus.index(full=True, keep_snapshots=1)
    [now] = rig.segments
    shutil.copy(old, now)

    [fault] = verify_index(rig.folder, read_data=False).faults
    assert fault.file == now.name
    with pytest.raises(DamagedIndexError, match=now.name):
        rig.corpus.open()


def test_a_block_that_a_search_meets_is_told_with_the_file(rig: Rig):
    path = rig.segments[0]
    blocks = (path.stat().st_size - _HEADER) // _BLOCK
    for block in range(blocks):
        _flip(path, _HEADER + block * _BLOCK + 4_321)
        try:
            with rig.corpus.open() as snapshot:
                snapshot.chunks(snapshot.allowed().tolist())
                rig.corpus.matrix(snapshot)
                snapshot.postings(["return"])
        except DamagedIndexError as error:
            assert error.path == path  # noqa: PT017 - some blocks hold nothing
        assert [fault.file for fault in verify_index(rig.folder, read_data=True).faults] == [
            path.name
        ]
        _flip(path, _HEADER + block * _BLOCK + 4_321)


def test_an_index_run_that_meets_a_damaged_block_names_the_file(rig: Rig):
    path = rig.segments[0]
    _flip(path, path.stat().st_size // 2)
    rig.corpus.write("old/m00.py", "def f_0_0(x):\n    return 1\n")
    settle()

    with suppress(DamagedIndexError):  # where the run needs the block
        rig.corpus.index(full=True)
    assert verify_index(rig.folder, read_data=True).faults


def test_a_file_that_may_not_be_read_is_told_and_left(rig: Rig):
    path = rig.segments[0]
    before = path.read_bytes()
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")

    assert "may not be read" in verify_index(rig.folder, read_data=False).faults[0].problem
    path.chmod(0o600)
    assert path.read_bytes() == before


def test_verify_writes_nothing(rig: Rig):
    before = {p: p.stat().st_mtime_ns for p in rig.folder.rglob("*")}

    verify_index(rig.folder, read_data=True)

    assert {p: p.stat().st_mtime_ns for p in rig.folder.rglob("*")} == before


def test_a_copy_on_another_machine_opens_and_goes_on(rig: Rig, tmp_path: Path):
    other = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(rig.corpus.root, other, copy_function=shutil.copyfile)
    copy = Corpus(other, make_definition(other), HashEmbedder())
    settle()

    assert copy.rows() == rig.rows
    copy.index()
    assert copy.embedded() == []
    assert copy.rows() == rig.rows


def test_a_copy_made_during_runs_opens_or_says_what_is_missing(rig: Rig, tmp_path: Path):
    """``cp -r`` reads the names first and the files one by one: what it misses is told."""
    for step in range(3):
        names = sorted(path.name for path in rig.folder.iterdir())
        copy = tmp_path / f"copy-{step}"
        copy.mkdir()
        for at, name in enumerate(names):
            if at == len(names) // 2:
                rig.corpus.write(
                    "new/n0.py", f"def g_0(y):\n    return {step}\n", seconds_ago=9 - step
                )
                rig.corpus.index(keep_snapshots=1)
            source = rig.folder / name
            if source.is_dir():
                shutil.copytree(source, copy / name)
            elif source.exists():
                shutil.copy(source, copy / name)
        faults = verify_index(copy, read_data=True).faults
        if not faults:
            with open_snapshot(copy) as snapshot:
                assert snapshot.chunk_count
        else:
            assert all(fault.problem for fault in faults)
        repair_files(copy)
        with suppress(NoSnapshotError, DamagedIndexError):
            list_snapshots(copy)


def test_a_segment_without_an_identity_is_noted_and_gets_one(rig: Rig):
    for path in rig.folder.glob("g*.duckdb"):
        _change_by_sql(path, "UPDATE segments SET identity = '', checksum = ''")
    _write_current(rig, marks={}, checksum=None)

    found = verify_index(rig.folder, read_data=True)
    assert found.is_whole
    assert "no identity" in found.notes[0]

    rig.corpus.index(full=True, keep_snapshots=1)
    assert verify_index(rig.folder, read_data=True).notes == []


def test_a_newer_index_is_refused_in_a_line(rig: Rig):
    _write_current(rig, format=2, checksum="anything")

    for use in (
        rig.corpus.open,
        rig.corpus.index,
        lambda: verify_index(rig.folder, read_data=False),
        lambda: repair_files(rig.folder),
    ):
        with pytest.raises(MerganserError, match=r"has format 2.*upgrade merganser") as raised:
            use()
        assert "\n" not in str(raised.value)
    assert IndexFolder(rig.folder).catalogues_on_disk()


def test_the_commands_say_what_is_damaged_by_their_exit_codes(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = tmp_path / "words.yaml"
    config.write_text(
        "rag:\n  code:\n    docs: [./tree]\n    strategies:\n"
        f"      - {{type: bm25, database: {rig.folder}}}\n"
    )

    def run(*words: str) -> tuple[object, dict[str, list[dict[str, object]]]]:
        with pytest.raises(SystemExit) as ended:
            main([*words, str(config), "--json"])
        return ended.value.code, json.loads(capsys.readouterr().out)

    code, whole = run("verify", "--read-data")
    assert (code, whole["indexes"][0]["whole"]) == (0, True)
    _flip(rig.segments[0], rig.segments[0].stat().st_size // 2)
    before = {path: path.read_bytes() for path in rig.folder.glob("[gsC]*")}

    assert run("verify")[0] == 0, "a byte inside is not seen without reading"
    code, damaged = run("verify", "--read-data")
    assert (code, damaged["indexes"][0]["whole"]) == (1, False)
    code, _ = run("repair", "--dry-run")
    assert code == 1
    assert {path: path.read_bytes() for path in rig.folder.glob("[gsC]*")} == before
