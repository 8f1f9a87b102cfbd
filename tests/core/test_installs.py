"""Nothing here installs a name that this project has published nowhere: another's would come."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

_INSTALLS = re.compile(
    r"\b(install|add|pull)\b[^\n#]*?[\s'\"`]merganser(?!'s|-|/|\.|@|\w|,| )"
    r"|\buvx?\s+(run\s+)?merganser\b|^\s*image:\s*merganser|^merganser\s*(==|[<>~@\[])"
    r"|\bpip\b[^\n]*\binstall\s[^\n]*[\s'\"]merganser\b(?!'s)",
    re.MULTILINE,
)


def installs(text: str) -> list[str]:
    return [found[0] for found in _INSTALLS.finditer(text)]


@pytest.mark.parametrize(
    "line",
    [
        "pip install merganser",
        "pip install --quiet merganser",
        "pip install 'merganser[pdf]'",
        "install merganser[ann]",
        "python -m pip install -U merganser==1.0",
        "uv add merganser",
        "uvx merganser index",
        "pipx install merganser",
        "    image: merganser:latest",
        "docker pull merganser",
    ],
)
def test_a_name_of_an_index_is_noticed(line: str):
    assert installs(line)


def test_nothing_of_the_repository_installs_our_name_from_an_index():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    own = Path(__file__).relative_to(ROOT).as_posix()
    found = {
        name: lines
        for name in listed.split("\0")
        if name and name != own and (ROOT / name).suffix not in {".xz", ".png", ".parquet"}
        if (ROOT / name).is_file()
        if (lines := installs((ROOT / name).read_text("utf-8", errors="replace")))
    }

    assert found == {}


def test_the_compose_file_builds_from_these_sources():
    services = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())["services"]

    assert services["database"]["image"] == "postgres:16"
    for name in ("server", "worker"):
        assert "image" not in services[name]
        build = services[name]["build"]
        assert (ROOT / "deployments" / build["context"]).resolve() == ROOT
        copied = re.findall(r"^COPY (.+) \S+$", build["dockerfile_inline"], re.MULTILINE)
        sources = " ".join(copied).split()
        assert [name for name in sources if not (ROOT / name).exists()] == []
        assert not any("txt" in name or name in {".", "deployments"} for name in sources)
