import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from merganser.agent import filesystem, no_follow
from merganser.agent.filesystem import Filesystem
from merganser.agent.no_follow import FilesystemError
from merganser.documents import ignore
from merganser.documents.selection import Pattern, Selection


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
        no_follow.read_text(target, "late.txt")


def test_a_folder_that_becomes_a_link_after_the_check_is_not_entered(
    files: Filesystem, root: Path, tmp_path: Path
):
    real = files.resolve("src")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.py").write_text("secret\n")
    (root / "src").rename(root / "gone")
    (root / "src").symlink_to(tmp_path / "outside")

    with pytest.raises(FilesystemError, match="not a directory"):
        no_follow.read_text(real / "a.py", "src/a.py")
    with (
        pytest.raises(NotADirectoryError),
        no_follow.open_resolved(real, no_follow.FOLDER),
    ):
        pass


@pytest.mark.parametrize("what", ["read", "list", "search"])
def test_nothing_leaks_while_a_folder_is_swapped_for_a_link(
    files: Filesystem, root: Path, tmp_path: Path, what: str
):
    outside, link, real = tmp_path / "outside", root / "link", root / "src"
    outside.mkdir()
    (outside / "a.py").write_text("secret\n")
    (outside / "secret.py").write_text("secret\n")
    link.symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        aside = root / "aside"
        while not stop.is_set():
            real.rename(aside)
            link.rename(real)
            aside.rename(link)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(1_500):
            with suppress(FilesystemError):
                if what == "read":
                    assert "secret" not in files.read_file("src/a.py").text
                elif what == "list":
                    assert "secret.py" not in files.list_directory("src")
                else:
                    assert not files.search_files_content("src", "secret")
    finally:
        stop.set()
        swapping.join()


ODD_PATHS = ["a" * 5_000, "a/" * 2_500, "\ud800", "src/\udcff", "notes.md/x", "src/" + "é" * 200]


@pytest.mark.parametrize("path", ODD_PATHS, ids=range(len(ODD_PATHS)))
def test_what_the_system_refuses_is_an_error_for_the_model(files: Filesystem, path: str):
    for use in (files.read_file, files.list_directory, files.directory_tree):
        with pytest.raises(FilesystemError) as raised:
            use(path)
        assert len(str(raised.value).encode()) < 2_000
    with pytest.raises(FilesystemError):
        files.search_files_content(path, "a")


def test_a_link_in_a_circle_is_an_error_for_the_model(files: Filesystem, root: Path):
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")

    with pytest.raises(FilesystemError):
        files.read_file("one")
    assert "one" in files.list_directory(".")


def test_names_that_are_not_utf8_are_listed_as_text(files: Filesystem, root: Path):
    (root / os.fsdecode(b"caf\xe9.txt")).write_text("run\n")

    assert "caf\\xe9.txt" in files.list_directory(".")
    assert "caf\\xe9.txt" in files.directory_tree(".")
    assert "caf\\xe9.txt:1: run" in files.search_files_content(".", "run")


def test_a_tree_without_end_does_not_end_a_search(files: Filesystem, root: Path):
    deep = root / "deep"
    deep.mkdir()
    descriptor = os.open(deep, os.O_RDONLY)
    for _ in range(150):  # deeper than a search goes
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)

    assert "src/b.py:1: print('run')" in files.search_files_content(".", "run")


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
    (root / "noise").write_bytes(b"\x81\xff\x01")
    os.mkfifo(root / "pipe")
    monkeypatch.setattr(no_follow, "MAX_FILE_BYTES", 10)

    for path, reason in [
        ("binary", "no text"),
        ("noise", "no text"),
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
    for path in ("build", "build/out.py", "x.log"):
        with pytest.raises(FilesystemError, match="ignored"):
            careful.read_file(path)
    assert careless.read_file("build/out.py").text == "run\n"
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


def _no_git(_folder: str, *_arguments: str, **_options: object) -> None:
    """Stand for a machine without git."""


@pytest.fixture(params=["git", "no git"])
def repository(root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a work tree whose rules git reads, or, when git is not there, we."""
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    if request.param == "no git":
        monkeypatch.setattr(ignore, "run_git", _no_git)
    return root


def test_what_a_repository_within_another_ignores_is_not_read(repository: Path):
    inner = repository / "inner"
    subprocess.run(["git", "init", "-q", str(inner)], check=True)
    (inner / ".gitignore").write_text("*.env\n")
    (inner / "a.env").write_text("secret\n")
    (inner / "a.py").write_text("run\n")
    files = Filesystem.at(repository)

    assert files.read_file("inner/a.py").text == "run\n"
    with pytest.raises(FilesystemError, match="ignored"):
        files.read_file("inner/a.env")

    (repository / ".gitignore").write_text("inner/\n")

    with pytest.raises(FilesystemError, match="ignored"):
        files.read_file("inner/a.py")


def test_a_root_that_its_repository_ignores_keeps_its_own_rules(repository: Path):
    (repository / ".gitignore").write_text("out/\n*.tmp\n")
    out = repository / "out"
    out.mkdir()
    (out / ".gitignore").write_text("*.log\n")
    for name in ("a.py", "a.log"):
        (out / name).write_text("run\n")
    files = Filesystem.at(out)

    assert files.list_directory(".") == [".gitignore", "a.py"]
    with pytest.raises(FilesystemError, match="ignored"):
        files.read_file("a.log")


def test_a_link_to_an_ignored_file_is_not_read(repository: Path):
    (repository / ".gitignore").write_text(".env\n")
    (repository / ".env").write_text("secret\n")
    (repository / "link").symlink_to(".env")

    with pytest.raises(FilesystemError, match="ignored"):
        Filesystem.at(repository).read_file("link")


def test_a_name_like_a_pattern_of_git_hides_nothing(repository: Path):
    (repository / ".gitignore").write_text(".env\n")
    (repository / ".env").write_text("secret\n")
    (repository / ":(top)").write_text("run\n")

    assert Filesystem.at(repository).list_directory(".") == [
        ".gitignore",
        ":(top)",
        "notes.md",
        "src/",
    ]


def test_a_model_is_shown_no_secrets(tmp_path: Path):
    token = "npm_" + "aB3dE5gH7j" * 3 + "kL9mN1"
    (tmp_path / "a.py").write_text(f"TOKEN = '{token}'\n")
    (tmp_path / ".env").write_text("PASSWORD=hunter2\n")
    files = Filesystem.at(tmp_path)

    assert files.read_file("a.py").text == "TOKEN = '[secret: npm-token]'\n"
    assert files.search_files_content(".", "PASSWORD") == []
    with pytest.raises(FilesystemError, match="holds secrets"):
        files.read_file(".env")


def _selection(exclude: str = "", include: str = "") -> Selection:
    patterns = [tuple(map(Pattern, text.split())) for text in (exclude, include)]
    return Selection(exclude=patterns[0], include=patterns[1])


def test_what_the_rags_leave_out_is_neither_listed_nor_read(root: Path):
    (root / ".merganserignore").write_text("*.md\n")
    (root / "src" / "old").mkdir()
    (root / "src" / "old" / "c.py").write_text("print('run')\n")
    files = Filesystem.at(root, selections=[_selection("src/b.py old/")])

    assert files.directory_tree(".") == [".merganserignore", "src/", "  a.py"]
    assert files.search_files_content(".", "run") == ["src/a.py:4: def run():"]
    for path in ("notes.md", "src/b.py", "src/old", "src/old/c.py"):
        with pytest.raises(FilesystemError, match="is left out"):
            files.read_file(path)
    with pytest.raises(FilesystemError, match=r"left out \(\.merganserignore:1: \*\.md\)"):
        Filesystem.at(root).read_file("notes.md")


def test_what_one_rag_takes_is_seen_though_another_leaves_it_out(root: Path):
    files = Filesystem.at(root, selections=[_selection("src"), _selection("src/b.py")])

    assert files.directory_tree(".") == ["notes.md", "src/", "  a.py"]


def test_what_include_takes_back_is_seen(repository: Path):
    (repository / ".gitignore").write_text("/gen\n")
    (repository / "gen").mkdir()
    for name in ("api.py", "rest.py"):
        (repository / "gen" / name).write_text("run\n")
    (repository / ".env").write_text("PASSWORD=hunter2\n")
    selection = _selection("src", "gen/api.py src/a.py .env")
    files = Filesystem.at(repository, selections=[selection])

    tree = files.directory_tree(".")

    assert tree == [".env", ".gitignore", "gen/", "  api.py", "notes.md", "src/", "  a.py"]
    assert files.read_file("gen/api.py").text == "run\n"
    with pytest.raises(FilesystemError, match="ignored"):
        files.read_file("gen/rest.py")
    with pytest.raises(FilesystemError, match="holds secrets"):
        files.read_file(".env")


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("a.txt", "Straße und Größe\n" * 9, "utf-16"),
        ("a.txt", "Straße und Größe\n" * 9, "utf-16-be"),
        ("a.py", "# -*- coding: latin-1 -*-\nNAME = 'Müller'\n", "latin-1"),
        ("a.html", "<meta charset=windows-1251>\n<p>Привет, мир</p>\n", "cp1251"),
    ],
)
def test_files_are_decoded_as_the_index_does(root: Path, name: str, text: str, encoding: str):
    (root / name).write_bytes(text.encode(encoding))
    files = Filesystem.at(root)

    assert files.read_file(name).text == text
    assert len(files.search_files_content(name, text.splitlines()[1])) >= 1


def test_a_secret_in_utf_16_is_not_shown(root: Path):
    (root / "a.txt").write_text("npm_" + "aB3dE5gH7j" * 3 + "kL9mN1\n", "utf-16")

    assert Filesystem.at(root).read_file("a.txt").text == "[secret: npm-token]\n"


def test_lines_are_counted_as_citations_count_them(root: Path):
    (root / "a.c").write_text("int a;\n\f\nint b;\u2028 int c;\nint d;\n")
    files = Filesystem.at(root)

    assert files.read_file("a.c", 4).text == "int d;\n"
    assert files.search_files_content("a.c", "int d") == ["a.c:4: int d;"]
