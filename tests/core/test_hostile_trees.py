"""No program of a tree that is indexed or browsed runs, whatever the tree holds.

Each tree is armed: plain git runs its program. Then every folder of it is scanned and browsed, and
the program has not run again.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.agent.filesystem import Filesystem
from merganser.agent.no_follow import FilesystemError
from merganser.documents.git import run_git
from merganser.documents.scanning import scan_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
_NOBODY = ("-c", "user.name=t", "-c", "user.email=t@example.org")


@dataclass(slots=True)
class Tree:
    """A tree under construction.

    Attributes:
        root: Its folder.
        mark: Made by the tree's program when it runs.
        environment: Variables of whoever indexes or browses it.
    """

    root: Path
    mark: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def write(self, path: str, text: str = "text\n") -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def program(self, path: str, then: str = "exec cat") -> str:
        """Write the program; it copies its input, as a filter does."""
        target = self.write(path, f"#!/bin/sh\n: > {self.mark}\n{then}\n")
        target.chmod(0o755)
        return str(target)

    def git(self, *arguments: str, folder: str = ".") -> None:
        command = ["git", *_NOBODY, *arguments]
        subprocess.run(
            command,
            cwd=self.root / folder,
            env={**os.environ, **self.environment},
            input=b"",
            capture_output=True,
            check=False,
            timeout=60,
        )

    def repository(self) -> None:
        self.git("init", "-q")
        self.write("a.py")
        self.git("add", ".")
        self.git("commit", "-qm", "one")

    def bare(self, folder: str, config: str) -> None:
        """Write what git takes for a bare repository, though it can be committed."""
        self.write(f"{folder}/HEAD", "ref: refs/heads/main\n")
        self.write(f"{folder}/objects/.keep")
        self.write(f"{folder}/refs/.keep")
        self.write(f"{folder}/config", f"[core]\n\trepositoryformatversion = 0\n{config}")


def bare_with_its_work_tree_inside(tree: Tree) -> None:
    tree.program("inner/hook.sh")
    tree.bare("inner", "\tworktree = .\n\tfsmonitor = ./hook.sh\n")
    tree.git("status", folder="inner")


def bare_with_its_work_tree_above(tree: Tree) -> None:
    tree.program("hook.sh")
    tree.bare("inner", "\tworktree = ..\n\tfsmonitor = ./hook.sh\n")
    tree.git("status", folder="inner")


def bare_inside_a_clone(tree: Tree) -> None:
    tree.repository()
    bare_with_its_work_tree_inside(tree)


def the_root_itself_is_bare(tree: Tree) -> None:
    tree.program("hook.sh")
    tree.bare(".", "\tworktree = .\n\tfsmonitor = ./hook.sh\n")
    tree.git("status")


def bare_that_includes_another_config(tree: Tree) -> None:
    tree.program("inner/hook.sh")
    tree.bare("inner", "\tworktree = .\n[include]\n\tpath = more\n")
    tree.write("inner/more", "[core]\n\tfsmonitor = ./hook.sh\n")
    tree.git("status", folder="inner")


def monitor_of_the_file_system(tree: Tree) -> None:
    tree.repository()
    tree.git("config", "core.fsmonitor", tree.program("hook.sh"))
    tree.git("status")


def monitor_in_the_config_of_a_work_tree(tree: Tree) -> None:
    tree.repository()
    tree.git("config", "extensions.worktreeConfig", "true")
    tree.git("config", "--worktree", "core.fsmonitor", tree.program("hook.sh"))
    tree.git("status")


def monitor_in_an_inner_repository(tree: Tree) -> None:
    tree.repository()
    (tree.root / "inner").mkdir()
    tree.git("init", "-q", folder="inner")
    tree.write("inner/b.py")
    tree.git("config", "core.fsmonitor", tree.program("inner/hook.sh"), folder="inner")
    tree.git("status", folder="inner")


def git_folder_elsewhere_in_the_tree(tree: Tree) -> None:
    tree.bare("store", "\tbare = false\n\tfsmonitor = ./hook.sh\n")
    tree.program("work/hook.sh")
    tree.write("work/.git", "gitdir: ../store\n")
    tree.git("status", folder="work")


def hook_of_a_changed_index(tree: Tree) -> None:
    tree.repository()
    tree.program(".git/hooks/post-index-change")
    tree.write("a.py", "more\n")
    tree.git("add", ".")


def hooks_in_another_folder(tree: Tree) -> None:
    tree.repository()
    tree.program("hooks/post-index-change")
    tree.git("config", "core.hooksPath", "hooks")
    tree.write("a.py", "more\n")
    tree.git("add", ".")


def _filtered(tree: Tree, key: str) -> None:
    tree.repository()
    tree.git("config", key, tree.program("hook.sh"))
    tree.write(".gitattributes", "* filter=own diff=own\n")
    tree.write("a.py", "more\n")


def filter_that_cleans(tree: Tree) -> None:
    _filtered(tree, "filter.own.clean")
    tree.git("add", "a.py")


def filter_that_stays(tree: Tree) -> None:
    _filtered(tree, "filter.own.process")
    tree.git("add", "a.py")


def differ_of_its_own(tree: Tree) -> None:
    _filtered(tree, "diff.external")
    tree.git("diff")


def differ_by_attribute(tree: Tree) -> None:
    _filtered(tree, "diff.own.command")
    tree.git("diff")


def converter_to_text(tree: Tree) -> None:
    _filtered(tree, "diff.own.textconv")
    tree.git("diff")


def programs_in_variables(tree: Tree) -> None:
    tree.repository()
    hook = tree.program("hook.sh")
    tree.environment |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": hook,
        "GIT_EXTERNAL_DIFF": hook,
        "GIT_PAGER": hook,
        "GIT_SSH_COMMAND": hook,
    }
    tree.git("status")


def repository_in_a_variable(tree: Tree) -> None:
    bare_with_its_work_tree_inside(tree)
    tree.environment["GIT_DIR"] = str(tree.root / "inner")


def folder_of_gits_programs(tree: Tree) -> None:
    tree.repository()
    tree.program("programs/git-own")
    tree.environment["GIT_EXEC_PATH"] = str(tree.root / "programs")
    tree.git("own")


def git_in_the_tree_and_on_a_relative_path(tree: Tree) -> None:
    tree.repository()
    hook = tree.program("git")
    tree.environment["PATH"] = f".:{os.environ['PATH']}"
    subprocess.run([hook], check=True, stdin=subprocess.DEVNULL)


def fetch_of_what_a_partial_clone_lacks(tree: Tree) -> None:
    tree.repository()
    tree.write(".gitignore", "*.log\n")
    tree.git("add", ".gitignore")
    tree.git("commit", "-qm", "two")
    tree.git("update-index", "--skip-worktree", ".gitignore")
    (tree.root / ".gitignore").unlink()
    found = subprocess.run(
        ["git", "rev-parse", "HEAD:.gitignore"],
        cwd=tree.root,
        capture_output=True,
        text=True,
        check=True,
    )
    blob = found.stdout.strip()
    (tree.root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    tree.git("config", "remote.origin.url", str(tree.root))
    tree.git("config", "remote.origin.uploadpack", tree.program("hook.sh", then="exit 1"))
    tree.git("config", "remote.origin.promisor", "true")
    tree.git("config", "extensions.partialClone", "origin")
    tree.git("ls-files", "--others", "--exclude-standard")


def modules_with_names_of_pythons_own(tree: Tree) -> None:
    for name in ("json", "re", "subprocess", "merganser"):
        tree.write(f"{name}.py", f"open({str(tree.mark)!r}, 'w').close()\n")
    subprocess.run([sys.executable, "-c", "import merganser"], cwd=tree.root, check=False)


TREES: list[Callable[[Tree], None]] = [
    bare_with_its_work_tree_inside,
    bare_with_its_work_tree_above,
    bare_inside_a_clone,
    the_root_itself_is_bare,
    bare_that_includes_another_config,
    monitor_of_the_file_system,
    monitor_in_the_config_of_a_work_tree,
    monitor_in_an_inner_repository,
    git_folder_elsewhere_in_the_tree,
    hook_of_a_changed_index,
    hooks_in_another_folder,
    filter_that_cleans,
    filter_that_stays,
    differ_of_its_own,
    differ_by_attribute,
    converter_to_text,
    programs_in_variables,
    repository_in_a_variable,
    folder_of_gits_programs,
    git_in_the_tree_and_on_a_relative_path,
    fetch_of_what_a_partial_clone_lacks,
    modules_with_names_of_pythons_own,
]


@pytest.fixture(params=TREES, ids=lambda build: build.__name__)
def armed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Build a tree, see its program run, and go into the tree as whoever looks at it does."""
    tree = Tree(tmp_path / "tree", tmp_path / "ran")
    tree.root.mkdir()
    request.param(tree)
    assert tree.mark.exists(), "plain git does not run the program: the tree proves nothing"
    tree.mark.unlink()
    tree.write("passages.md", "# Text\n")
    for name, value in tree.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tree.root)
    return tree


def _folders(tree: Tree) -> Iterator[Path]:
    yield tree.root
    yield from (path for path in tree.root.rglob("*") if path.is_dir() and ".git" not in path.parts)


def test_a_scan_runs_no_program_of_a_tree(armed: Tree):
    for folder in _folders(armed):
        found = scan_documents(["."], base=folder)
        if folder == armed.root:
            assert "passages.md" in {document.path for document in found.documents}

    assert not armed.mark.exists()


def test_asking_for_the_commit_runs_no_program_of_a_tree(armed: Tree):
    for folder in _folders(armed):
        where = str(folder)
        run_git(where, "rev-parse", "--verify", "-q", "HEAD^{commit}")
        run_git(where, "config", "--null", "--get-regexp", "url$")
        run_git(where, "for-each-ref", "--contains=HEAD", "refs/remotes")
        run_git(where, "ls-tree", "-r", "-z", "--full-tree", "HEAD")

    assert not armed.mark.exists()


@pytest.mark.parametrize("ignore_vcs", [True, False])
def test_browsing_runs_no_program_of_a_tree(armed: Tree, *, ignore_vcs: bool):
    files = Filesystem.at(armed.root, ignore_vcs=ignore_vcs)
    for folder in _folders(armed):
        path = folder.relative_to(armed.root).as_posix()
        with suppress(FilesystemError):  # a folder may be ignored
            files.list_directory(path)
            files.directory_tree(path)
            files.search_files_content(path, "Text")
            Filesystem.at(folder, ignore_vcs=ignore_vcs).list_directory(".")
    assert files.read_file("passages.md").text == "# Text\n"
    assert "passages.md" in files.list_directory(".")
    assert files.search_files_content("passages.md", "T.xt", is_regex=True)

    assert not armed.mark.exists()


def test_git_gets_our_settings_and_nothing_of_the_environment_but_where_things_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = tmp_path / "seen"
    shim = tmp_path / "bin" / "git"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\necho "$@" > {seen}.arguments\nenv > {seen}.environment\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}::.:bin:{os.environ['PATH']}")
    for name in ("GIT_DIR", "GIT_PAGER", "EDITOR", "LD_PRELOAD_OWN", "LC_TIME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))

    run_git(str(tmp_path), "ls-files", "-z")

    arguments = Path(f"{seen}.arguments").read_text()
    for setting in (
        "core.fsmonitor=false",
        "core.hooksPath=/dev/null",
        "safe.bareRepository=explicit",
        "protocol.allow=never",
        "--no-pager",
        "--no-optional-locks",
        "--literal-pathspecs",
    ):
        assert setting in arguments
    lines = Path(f"{seen}.environment").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines)
    assert all(entry.startswith("/") for entry in environment.pop("PATH").split(":"))
    assert environment["XDG_CONFIG_HOME"] == environment["LC_TIME"] == str(tmp_path)
    shells_own = {"PWD", "OLDPWD", "SHLVL", "_"}
    ours = {"GIT_NO_LAZY_FETCH", "GIT_TERMINAL_PROMPT"}
    where = {"HOME", "XDG_CONFIG_HOME", "LANG", "LANGUAGE"}
    others = {name for name in environment if not name.startswith("LC_")}
    assert others <= shells_own | ours | where


_LOGGING = """\
version: 1
handlers:
  own:
    (): subprocess.Popen
    args: [touch, "{mark}"]
"""


def settings_in_a_file_of_variables(tree: Tree) -> None:
    tree.write(".env", f"PREFECT_LOGGING_CONFIG_PATH={tree.root}/own.yaml\n")


def settings_in_prefects_file(tree: Tree) -> None:
    tree.write("prefect.toml", '[logging]\nconfig_path = "own.yaml"\n')


def settings_in_the_projects_file(tree: Tree) -> None:
    tree.write("pyproject.toml", '[tool.prefect.logging]\nconfig_path = "own.yaml"\n')


_PROFILES = """\
active = "own"
[profiles.own]
PREFECT_LOGGING_CONFIG_PATH = "own.yaml"
"""


def profiles_in_a_file_of_variables(tree: Tree) -> None:
    tree.write("own.toml", _PROFILES)
    tree.write(".env", "PREFECT_PROFILES_PATH=own.toml\n")


def profiles_in_prefects_file(tree: Tree) -> None:
    tree.write("own.toml", _PROFILES)
    tree.write("prefect.toml", 'profiles_path = "own.toml"\n')


def profiles_in_the_projects_file(tree: Tree) -> None:
    tree.write("own.toml", _PROFILES)
    tree.write("pyproject.toml", '[tool.prefect]\nprofiles_path = "own.toml"\n')


def home_address_and_storage(tree: Tree) -> None:
    settings_in_prefects_file(tree)
    lines = ("API_URL=http://127.0.0.1:9/api", "HOME=.", "RESULTS_DEFAULT_STORAGE_BLOCK=own/own")
    tree.write(".env", "".join(f"PREFECT_{line}\n" for line in lines))


FOLDERS: list[Callable[[Tree], None]] = [
    settings_in_a_file_of_variables,
    settings_in_prefects_file,
    settings_in_the_projects_file,
    profiles_in_a_file_of_variables,
    profiles_in_prefects_file,
    profiles_in_the_projects_file,
    home_address_and_storage,
]

_GUARD = """
from merganser.cli import main
try:
    main(["--version"])
except SystemExit:
    pass
"""

_SETTINGS = """
import os, sys
from prefect.settings import Settings, sources
for folder in sys.argv[1:]:
    os.chdir(folder)
    sources._file_cache.clear()
    print(Settings().model_dump_json())
"""


def _run_python(code: str, *arguments: object, folder: Path, **variables: str) -> list[str]:
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    environment = {**os.environ, "HOME": str(folder.parent), **variables}
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def test_no_file_of_the_working_folder_sets_anything_of_prefect(tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    trees = [Tree(tmp_path / build.__name__, tmp_path / "ran") for build in FOLDERS]
    for build, tree in zip(FOLDERS, trees, strict=True):
        tree.write("own.yaml", _LOGGING.format(mark=tree.mark))
        build(tree)
    folders = [tree.root for tree in trees]

    nothing, *plain = _run_python(_SETTINGS, empty, *folders, folder=empty)
    _version, _empty, *ours = _run_python(_GUARD + _SETTINGS, empty, *folders, folder=empty)

    assert nothing not in plain, "a tree that sets nothing in plain Prefect proves nothing"
    assert ours == [nothing] * len(trees)


def test_no_program_of_the_working_folder_runs_when_prefect_starts(tmp_path: Path):
    tree = Tree(tmp_path / "tree", tmp_path / "ran")
    tree.write("own.yaml", _LOGGING.format(mark=tree.mark))
    settings_in_prefects_file(tree)
    _run_python("import prefect.main, time; time.sleep(1)", folder=tree.root)
    assert tree.mark.exists(), "plain Prefect does not run the program: the tree proves nothing"
    tree.mark.unlink()

    _run_python(_GUARD.replace("pass", "import prefect.main"), folder=tree.root)

    assert not tree.mark.exists()


def test_the_users_variables_and_profile_still_set_prefect(tmp_path: Path):
    profiles = 'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect" / "profiles.toml").write_text(profiles)
    folder = tmp_path / "work"
    folder.mkdir()
    ask = "from prefect.settings import Settings; s = Settings(); print(s.api.url, s.api.key)"

    lines = _run_python(_GUARD + ask, folder=folder, PREFECT_API_KEY="mine")

    assert lines[-1] == "http://127.0.0.1:9/api **********"


@cache
def _nodes() -> list[tuple[str, ast.AST]]:
    """Return each node of the product's code with its file."""
    return [
        (path.relative_to(ROOT).as_posix(), node)
        for folder in ("src", "flows", "tasks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
    ]


def test_git_is_called_in_one_place():
    """Whoever names the program, or a library that calls it, stands here."""
    named = {
        name
        for name, node in _nodes()
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (node.value == "git" or node.value.startswith("git ") or node.value[-4:] == "/git")
    }

    assert named == {
        "src/merganser/config/sections.py",  # a key of the language
        "src/merganser/config/spec_docs.py",  # likewise
        "src/merganser/config/unsupported.py",  # likewise
        "src/merganser/documents/forges.py",  # a scheme
        "src/merganser/documents/git.py",
        "src/merganser/documents/repositories.py",  # a scheme
    }


def _starts_programs(node: ast.AST) -> bool:
    libraries = {
        "subprocess",
        "pty",
        "git",
        "dulwich",
        "pygit2",
        "sh",
        "pexpect",
        "multiprocessing",
    }
    calls = r"system|popen|(posix_)?spawn\w*|exec(v|l)\w*|create_subprocess_\w+|run_process|fork\w*"
    match node:
        case ast.Import(names=names):
            return any(alias.name.partition(".")[0] in libraries for alias in names)
        case ast.ImportFrom(module=module):
            return (module or "").partition(".")[0] in libraries
        case ast.Attribute(attr=attribute):
            return re.fullmatch(calls, attribute) is not None
        case _:
            return False


def test_programs_are_started_in_named_modules_only():
    assert {name for name, node in _nodes() if _starts_programs(node)} == {
        "src/merganser/agent/filesystem.py",  # our own search, by a pattern
        "src/merganser/documents/apart.py",  # our own reader of PDF files
        "src/merganser/documents/git.py",
        "src/merganser/ending.py",  # starts none, ends the children of a process that ends
        "src/merganser/runner/bert_onnx.py",  # our own converter
        "src/merganser/services/supervisor.py",  # our own services
    }


def test_python_is_started_without_the_folder_that_one_works_in():
    """A module of the tree would stand before the library's own (``-P`` leaves it out)."""
    without = [
        name
        for name, node in _nodes()
        if isinstance(node, ast.List | ast.Tuple)
        and node.elts
        and ast.unparse(node.elts[0]) == "sys.executable"
        and (len(node.elts) < 2 or ast.unparse(node.elts[1]) != "'-P'")
    ]

    assert without == []
