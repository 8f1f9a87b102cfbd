"""Folders that machines share, by path and by URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from merganser.errors import StoreError
from merganser.store.shared_folder import SharedFolder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["path", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "path": str(tmp_path / "shared"),
        "file": f"file://{tmp_path}/shared",
        "memory": f"memory://{tmp_path.name}",
    }[request.param]


def test_what_is_put_is_there_for_others_until_it_is_removed(place: str):
    folder = SharedFolder(place).below("code")
    assert folder.names() == []

    name = folder.put("one", b"content")
    other = SharedFolder(place).below("code")

    assert other.names() == [name]
    assert name.startswith("one.")
    assert other.get(name) == b"content"
    assert folder.put("one", b"content") == name
    assert SharedFolder(place).names() == ["code"]
    other.remove(name)
    other.remove(name)
    assert folder.names() == []
    with pytest.raises(FileNotFoundError):
        folder.get(name)
    folder.put("two", b"x")
    SharedFolder(place).remove("code")
    assert folder.names() == []


def test_a_file_that_is_not_whole_is_not_there(place: str):
    folder = SharedFolder(place)
    name = folder.put("one", b"content")
    files: Any = getattr(folder, "_files")  # noqa: B009 - a storage that breaks off

    files.write(name, b"conte")

    with pytest.raises(FileNotFoundError, match="not as it was written"):
        folder.get(name)


@pytest.mark.parametrize(
    ("place", "what"),
    [("nowhere://x", "cannot be reached from here"), ("s3://bucket/x", "s3fs|boto|Install")],
)
def test_a_url_that_nothing_reaches_is_named(place: str, what: str):
    with pytest.raises(StoreError, match=what):
        SharedFolder(place)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StoreError, match=r"cannot write the shards at '.*file/x'"):
        SharedFolder(str(tmp_path / "file" / "x")).put("one", b"")
