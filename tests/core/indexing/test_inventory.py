"""What becomes of each file is told, before the first index and after it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from merganser.cli import main
from merganser.indexing.inventory import Inventory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.core.conftest import Corpus

CONFIG = """\
version: "2"
rag:
  notes:
    docs: [./notes]
    strategies:
      - type: bm25
        chunking: {size: 60, overlap: 10}
"""


def told(corpus: Corpus) -> dict[str, tuple[str, str, int | None]]:
    """Return outcome, change or reason, and chunks of every file."""
    facts = Inventory(corpus.definition).files()
    return {one.path: (one.outcome, one.change or one.reason, one.chunks) for one in facts}


def test_each_file_is_told_through_its_life(corpus: Corpus):
    corpus.write("src/a.py", "a = 1")
    corpus.write("src/logo.png", "x")
    assert told(corpus) == {
        "src/a.py": ("pending", "", None),
        "src/logo.png": ("skipped", "binary", None),
    }

    corpus.write("src/b.py", "b = 1")
    corpus.write("src/blob.py", "\0")
    corpus.index()
    assert told(corpus) == {
        "src/a.py": ("indexed", "", 1),
        "src/b.py": ("indexed", "", 1),
        "src/blob.py": ("skipped", "binary", None),
        "src/logo.png": ("skipped", "binary", None),
    }

    corpus.write("src/a.py", "a = 2")
    corpus.write("src/b.py", "b = 1")  # touched, and the same
    corpus.write("src/c.py", "c = 1")
    corpus.write("src/blob.py", "text now")
    assert told(corpus)["src/a.py"] == ("indexed", "changed", 1)
    assert told(corpus)["src/b.py"] == ("indexed", "", 1)
    assert told(corpus)["src/c.py"] == ("pending", "new", None)
    assert told(corpus)["src/blob.py"] == ("pending", "new", 1)  # read, as it was left out

    corpus.remove("src/b.py")
    corpus.write("src/a.py", "")
    assert told(corpus)["src/b.py"] == ("indexed", "gone", 1)
    assert told(corpus)["src/a.py"] == ("skipped", "changed", 1)


def test_a_file_that_failed_is_told_with_the_chunks_that_are_served(corpus: Corpus):
    corpus.write("src/a.py", "a = 1")
    for number in range(8):  # a run in which most files fail publishes nothing
        corpus.write(f"src/{number}.py", f"x = {number}")
    corpus.index()
    corpus.write("src/a.py", "the model refuses this")
    corpus.write("src/b.py", "b = 2")

    def refuse(texts: object) -> None:
        if "refuses" in str(texts):
            raise ValueError("too odd")

    corpus.embedder.before = refuse
    assert corpus.index().status == "degraded"

    (facts,) = [one for one in Inventory(corpus.definition).files() if one.path == "src/a.py"]
    assert (facts.outcome, facts.change, facts.chunks) == ("failed", "changed", 1)
    assert (facts.reason, facts.detail) == ("embedding", "ValueError: too odd")


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Run a command beside a config whose notes are in git; return its code and what it prints."""
    (tmp_path / "notes" / "build").mkdir(parents=True)
    (tmp_path / "notes" / "build" / "made.py").write_text("made = 1")
    (tmp_path / "notes" / "a.py").write_text("".join(f"a{n} = {n}\n" for n in range(20)))
    (tmp_path / "notes" / ".gitignore").write_text("build/\n")
    (tmp_path / "outside.py").write_text("x = 1")
    (tmp_path / "notes.yaml").write_text(CONFIG)
    subprocess.run(["git", "init", "-q", "notes"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)

    def run(command: str, *options: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([command, str(tmp_path / "notes.yaml"), *options])
        return int(ended.value.code or 0), capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("path", "code", "why"),
    [
        ("notes/build/made.py", 0, "(ignored: by git's rules; with all of notes/build/)"),
        ("outside.py", 1, "(not in docs: it is there, and no entry of `docs` (./notes) takes"),
        ("notes/.git/config", 1, "(not in docs: folders called .git are never entered)"),
        ("notes/gone.py", 1, "(no such file: there is no "),
    ],
)
def test_why_a_file_is_not_found_is_answered(
    run: Callable[..., tuple[int, str]], path: str, code: int, why: str
):
    ended, out = run("files", path)

    assert ended == code
    assert f"{path}  {why}" in out


@pytest.mark.parametrize("path", ["../a.py", "notes/a.py", "../../notes/./a.py"])
def test_a_path_is_taken_from_the_working_folder_and_as_a_hit_prints_it(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
):
    monkeypatch.chdir(tmp_path / "notes" / "build")

    code, out = run("files", path, "--jsonl")

    assert (code, json.loads(out)["path"]) == (0, "notes/a.py")


def test_filters_choose_and_json_is_whole(run: Callable[..., tuple[int, str]]):
    code, out = run("files", "--skipped", "--json")
    listed: dict[str, Any] = json.loads(out)
    assert (code, [one["path"] for one in listed["files"]]) == (0, ["notes/build/"])

    _, out = run("files", "--reason", "ignored", "--jsonl")
    assert [json.loads(line)["reason"] for line in out.splitlines()] == ["ignored"]

    _, out = run("files", "--outcome", "pending", "--read", "--json")
    chunks = {one["path"]: one["chunks"] for one in json.loads(out)["files"]}
    assert chunks == {"notes/.gitignore": 1, "notes/a.py": 3}


def test_a_name_with_line_ends_is_one_line_of_the_list(
    run: Callable[..., tuple[int, str]], tmp_path: Path
):
    (tmp_path / "notes" / "a\nindexed 9\x1b[2J.py").write_text("x = 1")

    _, out = run("files", "notes")

    assert r"notes/a\nindexed 9\x1b[2J.py" in out.splitlines()[2]


def test_chunks_are_shown_as_they_are_cut_with_their_overlap(
    run: Callable[..., tuple[int, str]], tmp_path: Path
):
    code, out = run("chunks", "notes/a.py", "--json")

    text = (tmp_path / "notes" / "a.py").read_text()
    cut = json.loads(out)["indexes"]["notes"]
    chunks = cut["chunks"]
    assert (code, cut["served"], cut["remark"]) == (0, None, "no snapshot is served yet")
    assert "".join(one["text"][one["overlap"] :] for one in chunks) == text
    assert [one["size"] for one in chunks] == [len(one["text"]) for one in chunks]
    _, shown = run("chunks", "notes/a.py", "--no-text")
    assert f"2. notes/a.py:{chunks[1]['start_line']}-{chunks[1]['end_line']}  text, " in shown
    assert "   | a0 = 0" in run("chunks", "notes/a.py")[1]


def test_chunks_say_whether_the_served_snapshot_has_the_same(
    run: Callable[..., tuple[int, str]], tmp_path: Path
):
    from merganser.config.load import load_config
    from merganser.config.rag_definition import resolve_rag
    from merganser.indexing.run import index_once

    (index,) = resolve_rag(load_config(tmp_path / "notes.yaml"), "notes").indexes
    index_once(index, None)
    assert "snapshot 1 has the same 3 chunks" in run("chunks", "notes/a.py")[1]

    config = tmp_path / "notes.yaml"
    config.write_text(CONFIG.replace("size: 60", "size: 50"))
    assert "other chunks: the chunking changed since" in run("chunks", "notes/a.py")[1]
    config.write_text(CONFIG)
    (tmp_path / "notes" / "a.py").write_text("a = 1\n")
    assert "snapshot 1 has 3 other chunks: the file changed since" in run("chunks", "notes/a.py")[1]
    (tmp_path / "notes" / "new.py").write_text("a = 1\n")
    assert "snapshot 1 does not hold the file" in run("chunks", "notes/new.py")[1]


def test_chunks_of_what_is_left_out_say_why(run: Callable[..., tuple[int, str]]):
    code, out = run("chunks", "notes/build/made.py")

    assert code == 1
    assert "has no chunks (skipped; ignored: by git's rules; with all of notes/build/)" in out


def test_what_is_left_out_has_the_kind_it_is_left_out_for_and_a_folder_none(corpus: Corpus):
    corpus.write("src/made.py", "# Code generated by protoc. DO NOT EDIT.\nx = 1\n")
    corpus.write("src/uv.lock", "x")
    corpus.write("src/node_modules/a/index.js", "x")
    corpus.write("src/package.json", "{}")
    corpus.index()

    facts = Inventory(corpus.definition)

    assert {one.path: one.kind for one in facts.files()} == {
        "src/made.py": "generated",
        "src/node_modules/": "vendored",
        "src/package.json": "config",
        "src/uv.lock": "lock",
    }
    assert (facts.explain("src").reason, facts.explain("src").detail) == (
        "a folder",
        "name a file in it",
    )
