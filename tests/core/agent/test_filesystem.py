import os
import subprocess
from pathlib import Path

import pytest

from merganser.agent import filesystem
from merganser.agent.filesystem import Filesystem, FilesystemError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("import os\n\n\ndef run():\n    return os.name\n")
    (root / "src" / "b.py").write_text("print('run')\n")
    (root / "notes.md").write_text("# Notes\n")
    (tmp_path / "secret.txt").write_text("secret\n")
    return root


@pytest.fixture
def files(root: Path) -> Filesystem:
    return Filesystem.at(root)


def test_a_file_is_read_with_its_lines(files: Filesystem):
    part = files.read_file("src/a.py", 4, 5)

    assert (
        part.path,
        part.start_line,
        part.end_line,
        part.text,
    ) == ("src/a.py", 4, 5, "def run():\n    return os.name\n")


def test_an_absolute_path_inside_the_root_is_read_and_named_relative(files: Filesystem, root: Path):
    assert files.read_file(str(root / "notes.md")).path == "notes.md"


@pytest.mark.parametrize(
    "path", ["../secret.txt", "src/../../secret.txt", "src/../notes.md", "..", "", " ", "a\0b"]
)
def test_paths_that_climb_or_are_empty_are_refused(files: Filesystem, path: str):
    with pytest.raises(FilesystemError, match=r"not allowed|not be empty"):
        files.read_file(path)


def test_an_absolute_path_outside_is_refused_without_saying_what_is_there(
    files: Filesystem, tmp_path: Path
):
    with pytest.raises(FilesystemError, match="outside"):
        files.read_file(str(tmp_path / "secret.txt"))
    with pytest.raises(FilesystemError, match="outside"):
        files.read_file(str(tmp_path / "missing.txt"))


def test_links_that_leave_the_root_are_refused(files: Filesystem, root: Path, tmp_path: Path):
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "folder").symlink_to(tmp_path)

    for path in ("link.txt", "folder/secret.txt"):
        with pytest.raises(FilesystemError, match="outside"):
            files.read_file(path)


def test_links_inside_the_root_are_followed(files: Filesystem, root: Path):
    (root / "link.md").symlink_to("notes.md")

    assert files.read_file("link.md").text == "# Notes\n"


def test_a_link_put_in_after_the_check_is_not_followed(root: Path, tmp_path: Path):
    target = root / "late.txt"
    target.symlink_to(tmp_path / "secret.txt")

    with pytest.raises(FilesystemError, match="cannot be read"):
        filesystem.read_text(target, "late.txt")


def test_searching_and_drawing_do_not_leave_by_links(files: Filesystem, root: Path, tmp_path: Path):
    (root / "folder").symlink_to(tmp_path)
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")

    assert files.search_files_content(".", "secret") == []
    assert not any("secret" in line for line in files.directory_tree("."))


def test_version_controls_own_folder_is_neither_listed_nor_read(files: Filesystem, root: Path):
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("token = 1\n")

    assert ".git/" not in files.list_directory(".")
    with pytest.raises(FilesystemError, match="version control"):
        files.read_file(".git/config")


def test_binaries_giants_and_devices_are_refused(
    files: Filesystem, root: Path, monkeypatch: pytest.MonkeyPatch
):
    (root / "binary").write_bytes(b"a\0b")
    (root / "latin").write_bytes(b"caf\xe9")
    os.mkfifo(root / "pipe")
    monkeypatch.setattr(filesystem, "MAX_FILE_BYTES", 10)

    for path, reason in [
        ("binary", "binary"),
        ("latin", "UTF-8"),
        ("pipe", "not a file"),
        ("src/a.py", "larger"),
        ("src", "not a file"),
    ]:
        with pytest.raises(FilesystemError, match=reason):
            files.read_file(path)


def test_a_long_file_is_cut_at_a_line_and_says_so(
    files: Filesystem, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(filesystem, "MAX_READ_CHARACTERS", 15)

    part = files.read_file("src/a.py")

    assert (part.text, part.end_line, part.truncated) == ("import os\n\n\n", 3, True)


def test_lines_that_do_not_exist_are_refused(files: Filesystem):
    with pytest.raises(FilesystemError, match="only 5 lines"):
        files.read_file("src/a.py", 9)
    with pytest.raises(FilesystemError, match="before"):
        files.read_file("src/a.py", 3, 2)


def test_an_empty_file_has_no_lines(files: Filesystem, root: Path):
    (root / "empty").touch()

    assert files.read_file("empty").text == ""


def test_listing_and_tree_are_sorted_with_directories_marked(files: Filesystem):
    assert files.list_directory(".") == ["notes.md", "src/"]
    assert files.directory_tree(".") == ["notes.md", "src/", "  a.py", "  b.py"]
    with pytest.raises(FilesystemError, match="not a directory"):
        files.list_directory("notes.md")


def test_what_git_ignores_is_left_out_unless_asked_for(root: Path):
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / ".gitignore").write_text("build/\n*.log\n")
    (root / "build").mkdir()
    (root / "build" / "out.py").write_text("run\n")
    (root / "x.log").write_text("run\n")

    careful = Filesystem.at(root)
    careless = Filesystem.at(root, ignore_vcs=False)

    assert careful.list_directory(".") == [".gitignore", "notes.md", "src/"]
    assert "build/" in careless.list_directory(".")
    assert not any("build" in line for line in careful.search_files_content(".", "run"))
    assert "build/out.py:1: run" in careless.search_files_content(".", "run")


def test_search_gives_places_and_takes_texts_literally(files: Filesystem):
    assert files.search_files_content(".", "run()") == ["src/a.py:4: def run():"]
    assert files.search_files_content(".", "run", exclude_patterns=["a.py"]) == [
        "src/b.py:1: print('run')"
    ]
    assert files.search_files_content(".", "run", exclude_patterns=["src"]) == []


def test_search_by_pattern_finds_and_refuses_broken_ones(files: Filesystem):
    assert files.search_files_content("src", r"^def \w+", is_regex=True) == [
        "src/a.py:4: def run():"
    ]
    with pytest.raises(FilesystemError, match="no regular expression"):
        files.search_files_content("src", "(", is_regex=True)


def test_a_pattern_that_never_ends_is_stopped(
    files: Filesystem, root: Path, monkeypatch: pytest.MonkeyPatch
):
    (root / "evil.txt").write_text("a" * 60 + "!\n")
    monkeypatch.setattr(filesystem, "SEARCH_SECONDS", 1.0)

    with pytest.raises(FilesystemError, match="took longer"):
        files.search_files_content("evil.txt", r"^(a+)+$", is_regex=True)


def test_the_second_root_is_looked_in_when_the_first_has_no_such_file(root: Path):
    files = Filesystem.at(root / "src", root)

    assert files.read_file("notes.md").path == "notes.md"


def test_a_root_that_is_no_directory_is_refused(root: Path):
    with pytest.raises(FilesystemError, match="no directory"):
        Filesystem.at(root / "missing")
