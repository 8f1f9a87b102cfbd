"""The commit of what was indexed, and the page of a forge with the lines, where there is one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from merganser.config.load import load_config
from merganser.config.rag_definition import resolve_rag
from merganser.documents.forges import link, load_provenance, origin_of
from merganser.indexing import provenance
from merganser.indexing.run import index_once
from merganser.retrieval.search import Retriever
from tests.core.conftest import Corpus, make_definition
from tests.core.documents.test_git_sources import Origin, repository

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "5fdac2d16c16a6a5a7b2c94ea49f1d8f0ac2d3c0"


@pytest.fixture
def pushed(tmp_path: Path) -> Origin:
    """A work tree whose commit a remote at a forge has, as far as git knows."""
    origin = Origin(tmp_path / "work")
    origin.git("remote", "add", "origin", "git@github.com:org/repo.git")
    origin.git("update-ref", "refs/remotes/origin/main", "HEAD")
    return origin


def corpus_of(origin: Origin, folder: str = ".") -> Corpus:
    root = origin.root / folder
    docs = (".",) if folder == "." else ("src", "../src")
    index = origin.root.parent / "index"
    return Corpus(root, make_definition(root, folder=index, docs=docs, docs_positions=()))


def known(corpus: Corpus) -> str:
    with corpus.open() as snapshot:
        return snapshot.meta["repositories"]


def url(corpus: Corpus, path: str) -> str:
    return origin_of(known(corpus), path, (1, 2)).url


def test_a_file_that_is_as_committed_and_pushed_has_a_link(pushed: Origin):
    corpus = corpus_of(pushed)
    corpus.index()
    commit = pushed.git("rev-parse", "HEAD")

    assert origin_of(known(corpus), "src/app.py", (1, 2)) == (
        commit,
        f"https://github.com/org/repo/blob/{commit}/src/app.py#L1-L2",
    )


def test_a_file_that_was_edited_or_never_committed_has_none(pushed: Origin):
    (pushed.root / "src/app.py").write_text("edited = 1\n")
    (pushed.root / "src/new.py").write_text("new = 1\n")
    corpus = corpus_of(pushed)
    corpus.index()

    assert origin_of(known(corpus), "src/app.py", (1, 2)) == ("", "")
    assert origin_of(known(corpus), "src/new.py", (1, 2)) == ("", "")
    assert url(corpus, "README.md")


def test_a_commit_that_no_remote_is_known_to_have_has_no_link(pushed: Origin):
    commit = pushed.commit({"src/b.py": "b = 1\n"})
    corpus = corpus_of(pushed)
    corpus.index()

    assert origin_of(known(corpus), "src/b.py", (1, 2)) == (commit, "")


def test_edits_and_commits_between_runs_are_followed(
    pushed: Origin, monkeypatch: pytest.MonkeyPatch
):
    corpus = corpus_of(pushed)
    corpus.index()
    read: list[str] = []
    real = provenance.read_file

    def spying(path: Path, most: int) -> bytes:
        read.append(path.name)
        return real(path, most)

    monkeypatch.setattr(provenance, "read_file", spying)
    corpus.write("src/app.py", "edited = 1\n", seconds_ago=10)
    corpus.index()
    assert (url(corpus, "src/app.py"), read) == ("", ["app.py"])

    read.clear()
    commit = pushed.commit({"src/c.py": "c = 1\n"})
    pushed.git("update-ref", "refs/remotes/origin/main", "HEAD")
    corpus.index()

    assert commit in url(corpus, "src/app.py")
    assert commit in url(corpus, "README.md")
    assert set(read) == {"app.py", "c.py"}


def test_paths_above_the_configs_folder_are_those_of_the_repository(pushed: Origin):
    pushed.commit({"conf/src/inner.py": "inner = 1\n"})
    pushed.git("update-ref", "refs/remotes/origin/main", "HEAD")
    corpus = corpus_of(pushed, "conf")
    corpus.index()

    assert "/conf/src/inner.py#" in url(corpus, "src/inner.py")
    assert url(corpus, "../src/app.py").endswith("/src/app.py#L1-L2")


def test_nothing_is_known_outside_of_a_repository(corpus: Corpus):
    corpus.write("a.md", "text\n")
    corpus.index()

    assert load_provenance(known(corpus)) == ()


def test_a_clone_links_to_its_forge(tmp_path: Path, pushed: Origin):
    home = tmp_path / "home"
    team = repository(home, f"file://{pushed.root}")
    corpus = Corpus(tmp_path / "conf", make_definition(tmp_path / "conf", docs=()))
    corpus.root.mkdir()
    corpus.change(docs_positions=(), repositories=(team,), repository_positions=(None,))
    corpus.index()
    (found,) = load_provenance(known(corpus))

    assert (found.under, found.commit, found.remote) == (
        "team/",
        pushed.git("rev-parse", "HEAD"),
        team.url,
    )
    assert url(corpus, "team/src/app.py") == ""  # a folder is no forge


async def test_hits_carry_commit_and_link(pushed: Origin):
    config = pushed.root.parent / "c.yaml"
    config.write_text("rag: {code: {docs: [work], strategies: [{type: bm25}]}}\n")
    rag = resolve_rag(load_config(config), "code")
    await asyncio.to_thread(index_once, rag.indexes[0], None)
    with Retriever.open(rag) as searcher:
        (hit,) = (await searcher.search("app")).hits

    assert hit.as_json()["commit"] == pushed.git("rev-parse", "HEAD")
    assert hit.as_json()["url"].endswith("/src/app.py#L1-L2")


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://github.com/o/r.git", "https://github.com/o/r/blob/C/a%20b.py#L3-L9"),
        ("https://me@github.com/o/r", "https://github.com/o/r/blob/C/a%20b.py#L3-L9"),
        ("ssh://git@gitlab.com:22/g/s/r.git", "https://gitlab.com/g/s/r/-/blob/C/a%20b.py#L3-9"),
        (
            "git@gitlab.firm.example:g/r.git",
            "https://gitlab.firm.example/g/r/-/blob/C/a%20b.py#L3-9",
        ),
        ("https://gitlab.firm:8443/g/r", "https://gitlab.firm:8443/g/r/-/blob/C/a%20b.py#L3-9"),
        ("git@bitbucket.org:o/r.git", "https://bitbucket.org/o/r/src/C/a%20b.py#lines-3:9"),
        ("https://codeberg.org/o/r.git", "https://codeberg.org/o/r/src/commit/C/a%20b.py#L3-L9"),
        ("https://git.sr.ht/~o/r", "https://git.sr.ht/~o/r/tree/C/item/a%20b.py#L3-9"),
        (
            "git@ssh.dev.azure.com:v3/org/My%20Project/r",
            (
                "https://dev.azure.com/org/My%20Project/_git/r?path=%2Fa%20b.py&version=GCC"
                "&line=3&lineEnd=10&lineStartColumn=1&lineEndColumn=1"
            ),
        ),
        ("https://git.example.org/o/r.git", ""),
        ("file:///srv/github.com/o/r", ""),
        ("/srv/github/o/r", ""),
        ("ext::sh -c github", ""),
        ("javascript://github.com/o/r", ""),
        ("https://github.com/o/r?x=<script>", ""),
        ("https://github.com/../r", ""),
        ("https://github.com/o/r](javascript:alert(1))", ""),
        ("https://github.com/o", ""),
        ("https://github.com:x/o/r", ""),
        ("https://github.com\n.evil/o/r", ""),
    ],
)
def test_links_by_forge(remote: str, expected: str):
    found = link(remote, COMMIT, "a b.py", (3, 9)).replace(COMMIT, "C")

    assert found == expected.replace("C/", "C/")


def test_a_path_leads_nowhere_else():
    path = 'x"><script>](javascript:1)#?.py'

    found = link("https://github.com/o/r", COMMIT, path, (1, 1))

    assert not set('"<>()[]') & set(found)
    assert found.count("#") == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"": {"commit": 1}}', '{"": []}'])
def test_what_cannot_be_read_is_nothing(text: str):
    assert origin_of(text, "a.py", (1, 1)) == ("", "")
