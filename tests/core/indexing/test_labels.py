"""Several folders in one index, each below its label."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from merganser.deployment import watch
from merganser.deployment.watch import documents_state, watched_folders
from merganser.documents.repositories import Repository
from merganser.documents.selection import Pattern, Selection
from merganser.errors import SourcePosition, SpecErrors
from merganser.indexing.sources import scan_index
from tests.core.conftest import Corpus, make_definition, settle
from tests.core.documents.test_git_sources import Origin, repository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def team(tmp_path: Path) -> Corpus:
    """A config's folder with one file, and two folders beside it that have files of one name."""
    corpus = Corpus(tmp_path / "config", make_definition(tmp_path / "config", docs=("src",)))
    corpus.write("src/main.py", "def main():\n    return 'main'\n")
    for name in ("api", "web"):
        corpus.write(f"../repos/{name}/src/app.py", f"def {name}():\n    return '{name}'\n")
    corpus.write("../repos/api/vendor/lib.py", "x = 1\n")
    repositories = tuple(
        Repository(label=name, root=tmp_path / "repos" / name) for name in ("api", "web")
    )
    corpus.change(repositories=repositories, repository_positions=(None, None))
    return corpus


def change(corpus: Corpus, **patterns: list[str]) -> None:
    """Set ``exclude`` and ``include``; ``{top}`` is the folder above the config's."""
    top = str(corpus.root.parent)
    exclude, include = (
        tuple(Pattern(one.replace("{top}", top)) for one in patterns.get(key, []))
        for key in ("exclude", "include")
    )
    corpus.change(selection=Selection(exclude, include))


def paths(corpus: Corpus) -> list[str]:
    with corpus.open() as snapshot:
        return [file.path for file in snapshot.files()]


def test_files_stand_below_their_labels(team: Corpus):
    team.index()

    assert paths(team) == ["api/src/app.py", "api/vendor/lib.py", "src/main.py", "web/src/app.py"]


def test_nothing_changed_embeds_nothing_and_an_edit_is_found(team: Corpus):
    team.index()
    team.embedded()

    assert team.index().status == "unchanged"

    team.write("../repos/web/src/app.py", "def web():\n    return 'other'\n", seconds_ago=10)
    report = team.index()

    assert (report.changed, report.unchanged) == (1, 3)


def test_paths_of_a_label_take_in_a_part(team: Corpus):
    api, web = team.definition.repositories
    api = Repository(label="api", root=api.root, paths=("src/**/*.py",))
    team.change(repositories=(api, web))
    team.index()

    assert "api/vendor/lib.py" not in paths(team)
    assert "api/src/app.py" in paths(team)


API, OTHERS = ["api/src/app.py", "api/vendor/lib.py"], ["src/main.py", "web/src/app.py"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"exclude": ["api/src"]}, ["api/vendor/lib.py", *OTHERS]),
        ({"exclude": ["api/src/app.py"]}, ["api/vendor/lib.py", *OTHERS]),
        ({"exclude": ["api"]}, OTHERS),
        ({"exclude": ["/api/"]}, OTHERS),
        ({"exclude": ["api/**"]}, OTHERS),
        ({"exclude": ["{top}/repos/api"]}, OTHERS),
        ({"exclude": ["{top}/repos/api/src"]}, ["api/vendor/lib.py", *OTHERS]),
        ({"exclude": ["app.py"]}, ["api/vendor/lib.py", "src/main.py"]),
        ({"exclude": ["src/app.py"]}, [*API, *OTHERS]),
        ({"exclude": ["api"], "include": ["api/vendor"]}, ["api/vendor/lib.py", *OTHERS]),
        ({"exclude": ["api"], "include": ["api"]}, [*API, *OTHERS]),
    ],
)
def test_what_is_left_out_and_taken_back_is_named_by_labels(
    team: Corpus, selection: dict[str, list[str]], expected: list[str]
):
    change(team, **selection)

    assert [one.path for one in scan_index(team.definition).documents] == expected


def test_a_pattern_below_a_label_that_is_a_path_to_the_letter_stands_for_that_alone(team: Corpus):
    for name in ("[x]", "x"):
        team.write(f"../repos/web/src/{name}.py", "x = 1\n")
    change(team, exclude=["web/src/[x].py"])
    found = [one.path for one in scan_index(team.definition).documents]

    assert ("web/src/x.py" in found, "web/src/[x].py" in found) == (True, False)


def test_a_label_that_is_left_out_as_a_whole_is_told_once(team: Corpus):
    change(team, exclude=["api"])

    assert [(one.path, one.reason, one.detail) for one in scan_index(team.definition).skipped] == [
        ("api/", "excluded", "api")
    ]


def test_include_takes_back_below_a_label_what_git_ignores_and_what_tools_fill(team: Corpus):
    team.write("../repos/web/.gitignore", "gen/\n")
    team.write("../repos/web/gen/made.py", "x = 1\n")
    team.write("../repos/web/node_modules/duck/index.js", "x\n")
    subprocess.run(["git", "init", "-q"], cwd=team.root.parent / "repos/web", check=True)
    change(team, include=["web/gen", "web/node_modules/duck"])

    found = {one.path for one in scan_index(team.definition).documents}

    assert {"web/gen/made.py", "web/node_modules/duck/index.js"} <= found


def test_kinds_hold_below_labels(team: Corpus):
    team.write("../repos/web/tests/test_app.py", "def test_app(): ...\n")
    team.change(selection=Selection(kinds=("tests",)))

    assert [one.path for one in scan_index(team.definition).documents] == ["web/tests/test_app.py"]


def test_a_folder_that_is_no_longer_named_goes(team: Corpus):
    team.index()
    team.change(repositories=team.definition.repositories[:1], repository_positions=(None,))

    report = team.index()

    assert report.removed == 0  # as with any entry of docs, a run without it keeps its files
    assert "web/src/app.py" in paths(team)
    team.index(full=True)
    assert "web/src/app.py" not in paths(team)


def test_another_label_moves_the_files_and_embeds_nothing(team: Corpus):
    team.index()
    team.embedded()
    api, web = team.definition.repositories
    team.change(repositories=(Repository(label="server", root=api.root), web))

    team.index(full=True)

    assert team.embedded() == []
    assert "server/src/app.py" in paths(team)


def test_a_label_that_is_a_real_name_is_refused(team: Corpus):
    (team.root / "api").mkdir()
    position = SourcePosition(team.root / "team.yaml", 4, 9)
    team.change(repository_positions=(position, None))

    with pytest.raises(SpecErrors, match=r"(?s)team\.yaml:4:9.*'api' is also the name"):
        scan_index(team.definition)


def test_a_label_may_be_the_name_of_its_own_folder(team: Corpus):
    team.write("lib/x.py", "x = 1\n")
    own = Repository(label="lib", root=team.root / "lib")
    team.change(docs=("src", "lib"), repositories=(own,), repository_positions=(None,))

    assert [one.path for one in scan_index(team.definition).documents] == [
        "lib/x.py",
        "src/main.py",
    ]


def test_a_file_that_is_named_both_ways_is_there_once(team: Corpus):
    team.change(docs=("src", "../repos"))
    scan = scan_index(team.definition)

    assert [one.path for one in scan.documents] == [
        "api/src/app.py",
        "api/vendor/lib.py",
        "src/main.py",
        "web/src/app.py",
    ]
    assert ("../repos/api/src/app.py", "duplicate") in {(s.path, s.reason) for s in scan.skipped}


def test_a_folder_that_is_not_there_is_named_with_its_place(team: Corpus):
    gone = Repository(label="gone", root=team.root / "gone-folder")
    team.change(
        repositories=(*team.definition.repositories, gone),
        repository_positions=(None, None, SourcePosition(team.root / "team.yaml", 6, 9)),
    )

    with pytest.raises(SpecErrors, match=r"(?s)team\.yaml:6:9.*'gone' names no file.*gone-folder"):
        team.index()


def test_labelled_folders_are_watched(team: Corpus):
    before = documents_state([team.definition])
    team.write("../repos/web/src/new.py", "x = 2\n")

    assert documents_state([team.definition]) != before
    assert team.root.parent / "repos" / "web" in watched_folders([team.definition])


def test_a_path_leads_to_its_file(team: Corpus):
    for path in ("api/src/app.py", "src/main.py"):
        assert team.definition.locate(path).is_file()
    assert team.definition.locate("apis/x.py") == team.root / "apis/x.py"


# -- by URL ---------------------------------------------------------------------------------------


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "served" / "team")


@pytest.fixture
def cloning(tmp_path: Path, origin: Origin) -> Corpus:
    corpus = Corpus(tmp_path / "config", make_definition(tmp_path / "config", docs=()))
    corpus.root.mkdir()
    team = repository(tmp_path / "home", f"file://{origin.root}")
    corpus.change(docs_positions=(), repositories=(team,), repository_positions=(None,))
    return corpus


def test_a_run_clones_and_a_plan_does_not(cloning: Corpus):
    skipped = scan_index(cloning.definition).skipped
    assert [(skip.path, skip.reason) for skip in skipped] == [("team/", "not cloned")]

    cloning.index()

    assert paths(cloning) == ["team/README.md", "team/src/app.py"]


def test_a_ref_that_moved_reads_only_what_changed(cloning: Corpus, origin: Origin):
    cloning.index()
    settle()
    cloning.embedded()
    assert cloning.index().status == "unchanged"
    origin.commit({"src/app.py": "def app():\n    return 'another'\n"})

    report = cloning.index()

    assert (report.changed, report.unchanged) == (1, 1)
    assert cloning.embedded() == ["def app():\n    return 'another'\n"]


def test_a_repository_whose_ref_moved_is_seen_by_watching(
    cloning: Corpus, origin: Origin, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watch, "RECHECK_SECONDS", 0.0)
    before = documents_state([cloning.definition])
    cloning.index()
    assert documents_state([cloning.definition]) == before

    origin.commit({"src/b.py": "b = 1\n"})

    assert documents_state([cloning.definition]) != before
    assert watched_folders([cloning.definition]) == ()
