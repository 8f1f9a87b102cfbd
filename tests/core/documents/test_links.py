"""A folder that is named through a link."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from merganser.documents.scanning import scan_documents

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("entry", ["./code", "./code/**/*.py"])
def test_a_link_into_an_ignored_folder_of_the_same_repository_is_scanned(
    tmp_path: Path, entry: str
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text(".venv/\n")
    package = tmp_path / ".venv" / "lib" / "package"
    package.mkdir(parents=True)
    (package / "engine.py").write_text("def run():\n    return 1\n")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "code").symlink_to(package, target_is_directory=True)

    found = scan_documents([entry], base=tmp_path / "work")

    assert [document.path for document in found.documents] == ["code/engine.py"]
    assert found.missing == ()
