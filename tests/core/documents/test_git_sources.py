"""Repositories by URL: cloned whole or not at all, brought up to date, and running nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from merganser.documents import clones, git
from merganser.documents.clones import bring, read_clone
from merganser.documents.repositories import Repository, clone_name, fault_of_ref, fault_of_url
from merganser.errors import RepositoryError
from merganser.progress import Remark, listening
from tests.doubles.git_servers import git_daemon, git_http

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from merganser.progress import Progress

_NOBODY = {
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@example.org",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example.org",
}
_VARIABLE = "TEAM_TOKEN"


class Origin:
    """A repository on a server."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.commit({"src/app.py": "def app():\n    return 1\n", "README.md": "# Team\n"})

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *arguments],
            cwd=self.root,
            env={**os.environ, **_NOBODY, "GIT_CONFIG_GLOBAL": "/dev/null"},
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    def commit(self, files: dict[str, str]) -> str:
        for path, text in files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-qm", "more")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "served" / "team")


@pytest.fixture
def served(origin: Origin) -> Iterator[str]:
    with git_daemon(origin.root.parent) as url:
        yield f"{url}/team"


def repository(home: Path, url: str, ref: str = "", *, submodules: bool = False) -> Repository:
    root = home / "repositories" / clone_name(url, ref, submodules=submodules) / "tree"
    return Repository(label="team", root=root, url=url, ref=ref, submodules=submodules)


def said(of: Repository) -> list[str]:
    """Bring a repository, and return what was remarked."""
    heard: list[str] = []

    def listen(event: Progress | Remark) -> None:
        if isinstance(event, Remark):
            heard.append(event.text)

    with listening(listen):
        bring(of)
    return heard


def files(of: Repository) -> set[str]:
    return {
        path.relative_to(of.root).as_posix()
        for path in of.root.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(of.root).parts
    }


def test_a_repository_is_cloned_at_its_default_branch(tmp_path: Path, origin: Origin, served: str):
    team = repository(tmp_path / "home", served)

    assert bring(team).commit == origin.git("rev-parse", "HEAD")
    assert files(team) == {"src/app.py", "README.md"}
    assert (team.root / ".git/shallow").exists()
    assert (tmp_path / "home/repositories").stat().st_mode & 0o777 == 0o700


def test_a_branch_a_tag_and_a_commit_are_found(tmp_path: Path, origin: Origin, served: str):
    first = origin.git("rev-parse", "HEAD")
    origin.git("tag", "-a", "v1.0", "-m", "one")
    origin.git("checkout", "-qb", "feature/x")
    second = origin.commit({"new.py": "x = 1\n"})
    origin.git("checkout", "-q", "main")
    third = origin.commit({"third.py": "x = 3\n"})

    found = [
        bring(repository(tmp_path / "home", served, ref)).commit
        for ref in ("v1.0", "feature/x", "refs/heads/main", first, "")
    ]

    assert found == [first, second, third, first, third]


def test_an_update_touches_only_what_changed(tmp_path: Path, origin: Origin, served: str):
    team = repository(tmp_path / "home", served)
    bring(team)
    before = (team.root / "README.md").stat()
    commit = origin.commit({"src/app.py": "def app():\n    return 2\n", "src/b.py": "b = 1\n"})
    (origin.root / "src/b.py").unlink()
    commit = origin.commit({"src/c.py": "c = 1\n"})

    assert bring(team).commit == commit
    assert files(team) == {"src/app.py", "src/c.py", "README.md"}
    after = (team.root / "README.md").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_history_that_was_written_anew_is_followed(tmp_path: Path, origin: Origin, served: str):
    team = repository(tmp_path / "home", served)
    bring(team)
    origin.git("commit", "-q", "--amend", "-m", "other")
    commit = origin.commit({"src/app.py": "other = 1\n"})

    assert bring(team).commit == commit


def test_what_somebody_wrote_into_a_clone_goes_with_an_update(
    tmp_path: Path, origin: Origin, served: str
):
    team = repository(tmp_path / "home", served)
    bring(team)
    (team.root / "README.md").write_text("written over\n")
    (team.root / "extra.md").write_text("extra\n")
    origin.commit({"src/app.py": "other = 1\n"})
    bring(team)

    assert (team.root / "README.md").read_text() == "# Team\n"
    assert files(team) == {"src/app.py", "README.md"}


def test_a_server_that_is_away_leaves_the_last_clone_in_use(tmp_path: Path, origin: Origin):
    with git_daemon(origin.root.parent) as url:
        team = repository(tmp_path / "home", f"{url}/team")
        bring(team)
    remarks = said(team)

    assert len(remarks) == 1
    assert "serves" in remarks[0]
    assert files(team) == {"src/app.py", "README.md"}
    with pytest.raises(RepositoryError, match="refused"):
        bring(repository(tmp_path / "home", f"{url}/team", "other"))
    assert not list((tmp_path / "home").rglob("tree.*"))


def test_a_commit_that_is_here_asks_no_server(tmp_path: Path, origin: Origin):
    commit = origin.git("rev-parse", "HEAD")
    with git_daemon(origin.root.parent) as url:
        team = repository(tmp_path / "home", f"{url}/team", commit)
        bring(team)

    assert said(team) == []


def test_a_ref_that_is_not_there_is_named(tmp_path: Path, origin: Origin, served: str):
    origin.git("branch", "both")
    origin.git("tag", "both")

    with pytest.raises(RepositoryError, match="has no branch or tag 'nope'"):
        bring(repository(tmp_path / "home", served, "nope"))
    with pytest.raises(RepositoryError, match="all of its 40 digits"):
        bring(repository(tmp_path / "home", served, origin.git("rev-parse", "HEAD")[:10]))
    with pytest.raises(RepositoryError, match="both a branch and a tag 'both'"):
        bring(repository(tmp_path / "home", served, "both"))
    with pytest.raises(RepositoryError, match="team-of-nobody"):
        bring(repository(tmp_path / "home", f"{served}-of-nobody"))
    with pytest.raises(RepositoryError):
        bring(repository(tmp_path / "home", served, "0" * 40))


def test_a_clone_that_is_cut_off_leaves_nothing_half(
    tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch
):
    team = repository(tmp_path / "home", served)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(clones, "_check_out", cut)
        with pytest.raises(KeyboardInterrupt):
            bring(team)
    assert not team.root.exists()
    assert not list(team.root.parent.glob("tree*"))
    # So it is after a kill, which removes nothing.
    (team.root.parent / "tree.dead").mkdir()
    (team.root / ".git").mkdir(parents=True)

    bring(team)

    assert files(team) == {"src/app.py", "README.md"}
    assert not list(team.root.parent.glob("tree.*"))


def test_an_update_that_is_cut_off_is_finished_without_the_server(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
):
    with git_daemon(origin.root.parent) as url:
        team = repository(tmp_path / "home", f"{url}/team")
        bring(team)
        commit = origin.commit({"src/app.py": "new = 1\n", "src/b.py": "b = 1\n"})

        def cut(*_: object) -> None:
            (team.root / "src/app.py").write_text("half of it")
            (team.root / ".git/index.lock").touch()
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(clones, "_check_out", cut)
            with pytest.raises(KeyboardInterrupt):
                bring(team)
    bring(team)

    clone = read_clone(team)
    assert clone is not None
    assert clone.commit == commit
    assert (team.root / "src/app.py").read_text() == "new = 1\n"


def test_an_update_that_fails_half_way_does_not_serve(
    tmp_path: Path, origin: Origin, served: str, monkeypatch: pytest.MonkeyPatch
):
    team = repository(tmp_path / "home", served)
    bring(team)
    commit = origin.commit({"src/app.py": "new = 1\n"})

    def full(*_: object) -> None:
        raise git.GitError("fatal: no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(clones, "_check_out", full)
        with pytest.raises(RepositoryError, match="no space left"):
            bring(team)

    assert bring(team).commit == commit


def test_two_runs_at_once_make_one_clone(tmp_path: Path, served: str):
    team = repository(tmp_path / "home", served)
    threads = [threading.Thread(target=bring, args=(team,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert files(team) == {"src/app.py", "README.md"}
    assert not list(team.root.parent.glob("tree.*"))


def test_http_is_read_with_a_token_that_stands_nowhere(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TEAM_TOKEN", "hunter2-token")
    with git_http(origin.root.parent, login="x-access-token:hunter2-token") as (url, _):
        plain = repository(tmp_path / "home", f"{url}/team/.git")
        with pytest.raises(RepositoryError, match="token_key"):
            bring(plain)
        heard = replace(plain, token_key=_VARIABLE)
        bring(heard)
        monkeypatch.setenv("TEAM_TOKEN", "wrong-token")
        remarks = said(heard)

    assert files(heard) == {"src/app.py", "README.md"}
    assert "serves" in remarks[0]
    written = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert not [path for path in written if b"hunter2" in path.read_bytes()]
    monkeypatch.delenv("TEAM_TOKEN")
    assert "TEAM_TOKEN with its token is not set" in said(heard)[0]


def test_a_token_does_not_go_over_the_network_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TEAM_TOKEN", "hunter2-token")
    team = repository(tmp_path / "home", "http://git.example.org/team")

    with pytest.raises(RepositoryError, match="by https alone"):
        bring(replace(team, token_key=_VARIABLE))


def test_a_token_goes_to_its_server_alone(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
):
    """A redirect, and a submodule elsewhere, get no authorization."""
    monkeypatch.setenv("TEAM_TOKEN", "hunter2-token")
    other = Origin(tmp_path / "elsewhere" / "sub")
    with (
        git_http(other.root.parent) as (other_url, seen),
        git_http(origin.root.parent, login="x-access-token:hunter2-token") as (url, _),
    ):
        subprocess.run(
            ["git", "submodule", "add", "-q", f"{other_url}/sub/.git", "sub"],
            cwd=origin.root,
            check=True,
            capture_output=True,
        )
        origin.commit({})
        team = repository(tmp_path / "home", f"{url}/team/.git", submodules=True)
        bring(replace(team, token_key=_VARIABLE))

    assert "sub/src/app.py" in files(team)
    assert seen[-1:]
    assert {authorization for _, authorization in seen} == {""}


def test_submodules_are_left_out_unless_asked_for(tmp_path: Path, origin: Origin):
    Origin(tmp_path / "served" / "sub")
    origin.git("submodule", "add", "-q", f"file://{tmp_path}/served/sub", "sub")
    origin.commit({})
    url = f"file://{origin.root}"
    without = repository(tmp_path / "home", url)
    bring(without)
    with_them = repository(tmp_path / "home", url, submodules=True)
    bring(with_them)

    assert "sub/src/app.py" not in files(without)
    assert "sub/src/app.py" in files(with_them)


def test_no_program_runs_that_a_repository_or_its_settings_name(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
):
    """Filters of the user's settings, hooks of a template, a submodule by ``ext::``."""
    mark, home = tmp_path / "ran", tmp_path / "user"
    program = tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\n: > {mark}\nexec cat\n")
    program.chmod(0o755)
    template = tmp_path / "template/hooks"
    template.mkdir(parents=True)
    shutil.copy(program, template / "post-checkout")
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[filter "evil"]\n\tsmudge = {program}\n\tprocess = {program}\n'
        f"[core]\n\thooksPath = {template}\n\tfsmonitor = {program}\n\tpager = {program}\n"
        f"[init]\n\ttemplateDir = {template.parent}\n"
        f'[protocol "ext"]\n\tallow = always\n'
        f'[url "ext::{program} "]\n\tinsteadOf = https://replaced.example.org/\n'
    )
    monkeypatch.setenv("HOME", str(home))
    origin.commit({".gitattributes": "*.py filter=evil\n"})
    origin.git("submodule", "add", "-q", f"file://{origin.root}", "sub")
    origin.git("config", "-f", ".gitmodules", "submodule.sub.url", f"ext::{program} x")
    origin.commit({})
    mark.unlink(missing_ok=True)
    team = repository(tmp_path / "home", f"file://{origin.root}", submodules=True)
    bring(team)
    origin.commit({"src/app.py": "new = 1\n"})
    bring(team)
    with pytest.raises(RepositoryError):
        bring(repository(tmp_path / "home", "https://replaced.example.org/x"))

    assert (team.root / "src/app.py").read_text() == "new = 1\n"
    assert not mark.exists()


DRAWN = "q7JdRtX9kLw2Vb5nHs8YcZ4mPfG3uEaT6iQo"


@pytest.mark.parametrize(
    "url",
    [
        "https://host/r",
        "https://team@host/r",
        "https://github-actions-service-account-42@host/r",
        "git@host.org:o/r.git",
        "ssh://git@host/r",
        "file:///srv/r",
        "file:///srv/c#/r",
    ],
)
def test_urls_that_are_taken(url: str):
    assert fault_of_url(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c x",
        "ext::sh",
        "fd::7",
        "-u",
        "--upload-pack=x",
        "ssh://-oProxyCommand=x/r",
        "ssh://-x@host/r",
        "-oProxyCommand=x:r",
        "host:-x",
        "https://u:p@host/r",
        "https://host/a b",
        "https://host/a\nb",
        "file://host/r",
        "C:\\r",
        "ftp://host/r",
        "transport::https://host/r",
        "./r",
        "",
    ],
)
def test_urls_that_are_refused(url: str):
    assert fault_of_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://u:p@host/r",
        f"https://ghp_{DRAWN}@github.com/o/r.git",
        f"https://{DRAWN}@git.corp.net/o/r.git",
        "https://host/r.git?private_token=abc",
    ],
)
def test_a_url_with_a_secret_is_refused_as_such(url: str):
    assert "password" in fault_of_url(url)  # so the URL is not shown


@pytest.mark.parametrize(
    "ref", ["-x", "a..b", "a:b", "a b", "a*", "^a", "a~1", "a\n", "@{u}", "", "a/"]
)
def test_refs_that_are_refused(ref: str):
    assert fault_of_ref(ref)


def test_git_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RepositoryError, match="git is not installed"):
        bring(repository(tmp_path / "home", "https://127.0.0.1:1/x"))


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import socket

    monkeypatch.setattr(git, "_STALLED_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(RepositoryError, match="nothing came"):
            bring(repository(tmp_path / "home", url))
