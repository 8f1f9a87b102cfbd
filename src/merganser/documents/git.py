"""Ask git about a work tree that a stranger may have made; the only place that calls git.

A repository's own configuration can name programs: a monitor of the file system, hooks, filters,
pagers, differs, transports. Whoever indexes or browses a tree has not agreed to any of them, so
git is called in one way only. Commands that need a file's content, and with it filters or a
differ, are not offered at all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Literal

_SAFELY = (
    "--no-pager",
    "--no-optional-locks",  # writes no index, so no hook of a changed index either
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    # A folder that only looks like a bare repository can be committed, and comes with a clone.
    *("-c", "safe.bareRepository=explicit"),
    *("-c", "protocol.allow=never"),
    *("-c", "core.sshCommand=false"),
    *("-c", "core.attributesFile=/dev/null"),
)

# A file may be called ":(top)". check-ignore refuses the option: give it absolute paths, or such as
# begin with "./".
_LITERAL: dict[str, tuple[str, ...]] = {"check-ignore": (), "ls-files": ("--literal-pathspecs",)}

# The user's own settings count, such as core.excludesFile; variables of git itself do not: they
# name other repositories (inside a hook) and programs.
_KEPT = ("HOME", "XDG_CONFIG_HOME", "LANG", "LANGUAGE")
# A partial clone fetches what it lacks, by a program that its configuration names.
_OURS = {"GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}

_TIMEOUT_SECONDS = 120.0


def run_git(
    folder: str,
    command: Literal["check-ignore", "ls-files"],
    *arguments: str,
    given: bytes = b"",
    seconds: float = _TIMEOUT_SECONDS,
) -> subprocess.CompletedProcess[bytes] | None:
    """Run a git command that reads names only; no program of the work tree runs.

    Args:
        folder: Where git looks for the repository, from there up.
        command: The command; neither of these reads what a file holds.
        *arguments: Its arguments.
        given: What it reads from standard input.
        seconds: Most time that it may take.

    Returns:
        What came of it, or None when there is no git, or it takes longer.
    """
    # A relative entry of PATH would be looked up in the folder that git is called in.
    path = os.pathsep.join(
        entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry[:1] == "/"
    )
    git = shutil.which("git", path=path)
    if git is None:
        return None
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")
    }
    try:
        return subprocess.run(  # noqa: S603 - a fixed program with an argument list
            [git, *_SAFELY, *_LITERAL[command], command, *arguments],
            cwd=folder,
            env={**kept, **_OURS, "PATH": path},
            input=given,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
