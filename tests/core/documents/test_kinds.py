"""The table of kinds in the documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from merganser.documents.kinds import KINDS, LEFT_OUT, kind_of

PAGE = Path(__file__).resolve().parents[3] / "docs" / "documents.md"


def test_the_documented_kinds_are_those_of_the_code_and_each_example_is_of_its_kind():
    table = PAGE.read_text(encoding="utf-8").partition("| kind | files |\n")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[1:]]
    kinds = [re.findall("`(.+?)`", names) for names, _ in rows]
    examples = [
        (kind, f"{name}x.py" if name.endswith("/") else name)
        for (kind, *_), (_, files) in zip(kinds, rows, strict=True)
        for name in re.findall("`(.+?)`", files)
    ]

    assert {kind for row in kinds for kind in row} == {*KINDS}
    assert [row for row in kinds if len(row) > 1] == [["lock", "vendored", "generated"]]
    assert {"lock", "vendored", "generated"} == LEFT_OUT
    assert [(kind_of(path), path) for _, path in examples] == examples
    assert len(examples) > 10
