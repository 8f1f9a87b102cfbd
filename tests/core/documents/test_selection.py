"""What a config leaves out of its ``docs`` and takes back: real folders, real git."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from merganser.documents.kinds import ALL_KINDS, DEFAULT_KINDS, kind_of
from merganser.documents.scanning import Scan, scan_documents
from merganser.documents.selection import Pattern, Selection

if TYPE_CHECKING:
    from pathlib import Path


def write(root: Path, *paths: str, text: str = "text\n") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


def paths(scan: Scan) -> list[str]:
    return [document.path for document in scan.documents]


def select(
    base: Path, *docs: str, exclude: tuple[str, ...] = (), include: tuple[str, ...] = ()
) -> Scan:
    selection = Selection(
        tuple(Pattern(text) for text in exclude), tuple(Pattern(text) for text in include)
    )
    return scan_documents(docs or (".",), base=base, selection=selection)


@pytest.fixture(params=["git", "no git"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder, tracked by git or not."""
    if request.param == "git":
        git(tmp_path, "init", "-q")
    return tmp_path


def track(tree: Path) -> None:
    if (tree / ".git").exists():
        git(tree, "add", "-Af")


def test_exclusions_of_every_kind_name_their_rule(tree: Path):
    write(tree, "src/a.py", "src/a.snap", "vendor/x/b.py", "notes/c.md", "deep/big/d.py")
    (tree / "deep/.merganserignore").write_text("# all of it\nbig/\n")
    track(tree)
    selection = Selection(exclude=(Pattern("*.snap", "c.yaml:4"),))

    scan = scan_documents([".", "!./vendor", "!notes/*.md"], base=tree, selection=selection)

    assert paths(scan) == ["deep/.merganserignore", "src/a.py"]
    assert {skip.path: (skip.reason, skip.detail) for skip in scan.skipped} == {
        "deep/big/": ("excluded", "deep/.merganserignore:2: big/"),
        "notes/c.md": ("excluded", "!notes/*.md"),
        "src/a.snap": ("excluded", "c.yaml:4: *.snap"),
        "vendor/": ("excluded", "!./vendor"),
    }


def test_a_rules_file_counts_where_version_control_does_not(tmp_path: Path):
    write(tmp_path, "a.py", "b.md")
    write(tmp_path, ".merganserignore", text="*.md\n")

    scan = scan_documents(["."], base=tmp_path, respect_vcs=False)

    assert paths(scan) == [".merganserignore", "a.py"]


def test_include_takes_back_what_it_names_and_no_more(tree: Path):
    write(tree, "a.py", "uv.lock", "go.sum", "third/x/b.py", "third/ours/c.py")
    write(tree, "node_modules/left-pad/f.js", "node_modules/ours/g.js")
    track(tree)

    scan = select(tree, exclude=("third",), include=("third/ours", "uv.lock", "node_modules/ours"))

    assert paths(scan) == ["a.py", "node_modules/ours/g.js", "third/ours/c.py", "uv.lock"]
    assert {skip.path: skip.reason for skip in scan.skipped} == {
        "go.sum": "lock",
        "node_modules/": "vendored",
        "third/": "excluded",
    }


def test_the_rule_that_names_what_is_further_down_decides(tree: Path):
    write(tree, "x/keep/a.py", "x/b.py", "y/drop/c.py", "y/d.py", "z/e.py")
    track(tree)

    scan = select(tree, exclude=("x", "y/drop", "z"), include=("x/keep", "y", "z"))

    assert paths(scan) == ["x/keep/a.py", "y/d.py", "z/e.py"]


def test_kinds_turn_every_sign_of_a_vendored_folder(tree: Path):
    write(tree, "a.py", "mine/pyvenv.cfg", "mine/lib/b.py", "node_modules/c/d.js", "mine/e.log")
    track(tree)
    selection = Selection(exclude=(Pattern("*.log"),), kinds=tuple(ALL_KINDS))

    scan = scan_documents(["."], base=tree, selection=selection)

    assert paths(scan) == ["a.py", "mine/lib/b.py", "mine/pyvenv.cfg", "node_modules/c/d.js"]
    assert [(skip.path, skip.reason) for skip in scan.skipped] == [("mine/e.log", "excluded")]


def test_include_takes_what_git_ignores(tmp_path: Path):
    git(tmp_path, "init", "-q")
    write(tmp_path, ".gitignore", text="*.log\nout/\n")
    write(tmp_path, "a.py", "logs/b.log", "c.log", "out/gen/d.py", "out/e.py")

    scan = select(tmp_path, include=("logs", "out/gen"))

    assert paths(scan) == [".gitignore", "a.py", "logs/b.log", "out/gen/d.py"]


@pytest.mark.parametrize(
    ("files", "left_out"),
    [
        (["package.json", "node_modules/x/i.js"], "node_modules/"),
        (["sub/node_modules/x/i.js"], "sub/node_modules/"),
        ([".venv/lib/p.py"], ".venv/"),
        (["mine/pyvenv.cfg", "mine/lib/p.py"], "mine/"),
        (["Cargo.toml", "target/debug/x.d"], "target/"),
        (["pom.xml", "target/classes/x.txt"], "target/"),
        (["vendor/modules.txt", "vendor/github.com/x/y.go"], "vendor/"),
        (["vendor/composer/installed.json", "vendor/x/y.php"], "vendor/"),
        (["package.json", "dist/app.js", "dist/app.js.map"], "dist/"),
        (["build/CMakeCache.txt", "build/x.cmake"], "build/"),
        (["app.csproj", "obj/project.assets.json"], "obj/"),
        (["third_party/zlib/z.c"], "third_party/"),
        (["ios/Pods/X/x.m"], "ios/Pods/"),
        (["a/__pycache__/x.txt"], "a/__pycache__/"),
    ],
)
def test_what_tools_put_there_is_left_out(tree: Path, files: list[str], left_out: str):
    write(tree, "a.py", *files)
    track(tree)

    scan = select(tree)

    assert left_out in {skip.path for skip in scan.skipped}
    assert not [path for path in paths(scan) if path.startswith(left_out)]
    taken = scan_documents([".", left_out], base=tree)
    assert [path for path in paths(taken) if path.startswith(left_out)]


@pytest.mark.parametrize(
    "files",
    [
        ["package.json", "build/webpack.base.js"],
        ["package.json", "build/globals.d.ts", "build/plugins.ts"],
        ["game.csproj", "obj/ship.obj"],
        ["setup.py", "build/plan.py"],
        ["vendor/models.py", "vendor/views.py"],
        ["src/main/java/app/target/Goal.java"],
        ["setup.py", "stats/dist/normal.py"],
        ["go.mod", "out/printer.go"],
        ["Gemfile", "bin/deploy.sh"],
        ["lib/venv/__init__.py"],
        ["docs/_build/notes.md"],
        ["coverage/report.py"],
        ["deps/resolve.go"],
    ],
)
def test_sources_in_a_folder_of_such_a_name_are_kept(tree: Path, files: list[str]):
    write(tree, *files)
    track(tree)

    assert paths(select(tree)) == sorted(files)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("pkg/pods/watch.go", "code"),
        ("ios/Pods/AFNetworking/a.m", "vendored"),
        ("conf/app.pkl", "config"),
        ("app_test.go", "tests"),
    ],
)
def test_a_kind_is_told_by_the_path(path: str, kind: str):
    assert kind_of(path) == kind


def test_pkl_is_a_language_and_a_pickle_none(tmp_path: Path):
    write(tmp_path, "app.pkl", "model.pickle")

    assert paths(select(tmp_path)) == ["app.pkl"]


def test_kinds_say_what_is_indexed(tmp_path: Path):
    write(tmp_path, "a.py", "README.md", "tests/test_a.py", "uv.lock", "node_modules/x/i.js")

    def taken(*kinds: str) -> list[str]:
        chosen = ALL_KINDS.intersection(kinds)
        return paths(scan_documents(["."], base=tmp_path, selection=Selection(kinds=tuple(chosen))))

    assert taken(*DEFAULT_KINDS) == ["README.md", "a.py", "tests/test_a.py"]
    assert taken("code", "docs") == ["README.md", "a.py"]
    assert taken("code", "lock") == ["a.py", "uv.lock"]
    assert taken(*ALL_KINDS) == (
        ["README.md", "a.py", "node_modules/x/i.js", "tests/test_a.py", "uv.lock"]
    )


def test_a_name_that_is_there_is_no_pattern(tmp_path: Path):
    write(tmp_path, "app/[id]/page.ts", "app/i/page.ts", "{a,b}/c.md", "a/c.md")

    assert paths(select(tmp_path, "./app/[id]/*.ts")) == ["app/[id]/page.ts"]
    assert paths(select(tmp_path, "{a,b}/*.md")) == ["{a,b}/c.md"]
    assert paths(select(tmp_path, ".", exclude=("app/[id]/page.ts",))) == (
        ["a/c.md", "app/i/page.ts", "{a,b}/c.md"]
    )
