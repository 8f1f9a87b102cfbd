"""Ask git about a work tree that a stranger may have made; the only place that calls git.

A repository's own configuration can name programs: a monitor of the file system, hooks, filters,
pagers, differs, transports. Whoever indexes or browses a tree has not agreed to any of them, so
git is called in one way only. Commands that need a file's content, and with it filters or a
differ, are not offered for such a tree at all.

A clone of ours is another matter: its configuration is written here and by nobody else.
``run_in_clone`` checks files out in it with neither the system's nor the user's settings, which may
name filters. ``run_remote`` talks to a server, with the user's settings: proxies, certificates and
helpers for passwords are theirs, and a login that only a person could type is refused.
"""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from merganser.humanize import mask_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

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
NamesCommand: TypeAlias = Literal[
    "check-ignore", "config", "for-each-ref", "ls-files", "ls-tree", "rev-parse"
]
"""Commands that read names, settings and the numbers of objects, and no file of a work tree."""

_LITERAL: dict[str, tuple[str, ...]] = {"check-ignore": (), "ls-files": ("--literal-pathspecs",)}

# The user's own settings count, such as core.excludesFile; variables of git itself do not: they
# name other repositories (inside a hook) and programs.
_KEPT = ("HOME", "XDG_CONFIG_HOME", "LANG", "LANGUAGE")
# A partial clone fetches what it lacks, by a program that its configuration names.
_OURS = {"GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}

_TIMEOUT_SECONDS = 120.0


def run_git(
    folder: str,
    command: NamesCommand,
    *arguments: str,
    given: bytes = b"",
    seconds: float = _TIMEOUT_SECONDS,
) -> subprocess.CompletedProcess[bytes] | None:
    """Run a git command that reads names only; no program of the work tree runs.

    Args:
        folder: Where git looks for the repository, from there up.
        command: The command; none of these reads what a file holds.
        *arguments: Its arguments.
        given: What it reads from standard input.
        seconds: Most time that it may take.

    Returns:
        What came of it, or None when there is no git, or it takes longer.
    """
    git, environment = _find_git()
    if git is None:
        return None
    try:
        return subprocess.run(  # noqa: S603 - a fixed program with an argument list
            [git, *_SAFELY, *_LITERAL.get(command, ()), command, *arguments],
            cwd=folder,
            env=environment,
            input=given,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _find_git(*more: str) -> tuple[str | None, dict[str, str]]:
    """Return where git is, and the environment to call it in.

    Args:
        *more: Variables that are handed on beside the usual ones.
    """
    # A relative entry of PATH would be looked up in the folder that git is called in.
    path = os.pathsep.join(
        entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry[:1] == "/"
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name in more or name.startswith("LC_")
    }
    return shutil.which("git", path=path), {**kept, **_OURS, "PATH": path}


# -- clones of ours, and their servers ------------------------------------------------------------

_NO_SETTINGS = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "LC_ALL": "C",  # messages are looked at
}
_NETWORK = (
    *("SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"),
    *("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"),
)
# Asks nobody, and gives up a server that does not answer. What the user's ssh settings say holds.
_SSH = "ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=30 -oServerAliveCountMax=4"
_PATIENT = (
    *("-c", "http.lowSpeedLimit=100"),
    *("-c", "http.lowSpeedTime=60"),
    *("-c", "fetch.recurseSubmodules=false"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
)
_STALLED_SECONDS = 600.0
"""Longest time without a word of a fetch. A server may count the objects of a large repository for
minutes, and says so."""

_MAX_SAID = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a server may be talked to.

    Attributes:
        scheme: The one of the URL.
        header: An authorization for ``header_url``, or "". It is handed on in the environment,
            which other users cannot read; they can read a command line.
        header_url: The server's address, with scheme and port.
        settings: Whether the user's and the system's settings hold.
    """

    scheme: str
    header: str = field(default="", repr=False)
    header_url: str = ""
    settings: bool = True

    def for_submodules(self) -> Access:
        """Return the same for a command that checks files out too, so without any settings."""
        return replace(self, settings=False)

    def environment(self) -> dict[str, str]:
        """Return the variables that say so to git."""
        # The user's own settings may replace an address by one of ssh or https, and by no other.
        allowed = ":".join(dict.fromkeys((self.scheme, "https", "ssh")))
        found = {
            "GIT_ALLOW_PROTOCOL": allowed,
            "GIT_SSH_COMMAND": _SSH,
            "GIT_ASKPASS": "",
            "SSH_ASKPASS": "",
            "SSH_ASKPASS_REQUIRE": "never",
            **(_NO_SETTINGS if not self.settings else {}),
            "LC_ALL": "C",
        }
        if self.header:
            settings = {
                f"http.{self.header_url}.extraHeader": self.header,
                # git would send the header to wherever it is led.
                "http.followRedirects": "false",
                "credential.helper": "",
            }
            found["GIT_CONFIG_COUNT"] = str(len(settings))
            for number, (key, value) in enumerate(settings.items()):
                found[f"GIT_CONFIG_KEY_{number}"] = key
                found[f"GIT_CONFIG_VALUE_{number}"] = value
        return found


class GitError(Exception):
    """A git command failed; the text is what it said."""


def run_in_clone(folder: Path, *arguments: str) -> bytes:
    """Run a command on a clone of ours that talks to no server; no filter and no hook runs.

    Raises:
        GitError: It failed, or there is no git.
    """
    return _run(folder, arguments, _NO_SETTINGS, told=None)


def run_remote(
    folder: Path, access: Access, *arguments: str, told: Callable[[str], None] | None = None
) -> bytes:
    """Run a command that talks to a server.

    Args:
        folder: Where it runs: a clone of ours, or a folder without one.
        access: How it may be talked to.
        *arguments: The command and its arguments.
        told: Given each line of what it says of its progress.

    Raises:
        GitError: It failed, was silent for too long, or there is no git.
    """
    return _run(folder, (*_PATIENT, *arguments), access.environment(), told=told)


def _run(
    folder: Path,
    arguments: Sequence[str],
    variables: Mapping[str, str],
    *,
    told: Callable[[str], None] | None,
) -> bytes:
    git, environment = _find_git(*(_NETWORK if "GIT_ALLOW_PROTOCOL" in variables else ()))
    if git is None:
        raise GitError("git is not installed")
    try:
        process = subprocess.Popen(  # noqa: S603 - a fixed program with an argument list
            [git, *_SAFELY, *arguments],
            cwd=folder,
            env={**environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise GitError(f"git cannot be started: {error.strerror}") from error
    said = _Listener(process, told)
    with process:
        try:
            found = said.wait()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise GitError(said.problem() or f"git ended with {process.returncode}")
    return found


class _Listener:
    """Reads what a process writes, to its end, and ends it when it is silent for too long."""

    def __init__(
        self, process: subprocess.Popen[bytes], told: Callable[[str], None] | None
    ) -> None:
        self._process = process
        self._told = told
        self._out = bytearray()
        self._said: list[str] = []

    def wait(self) -> bytes:
        """Return what it wrote once it has ended.

        Raises:
            GitError: It was silent for too long; it is killed.
        """
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        with selectors.DefaultSelector() as open_pipes:
            open_pipes.register(self._process.stdout, selectors.EVENT_READ, self._out)
            open_pipes.register(self._process.stderr, selectors.EVENT_READ, bytearray())
            while open_pipes.get_map():
                ready = open_pipes.select(timeout=_STALLED_SECONDS)
                if not ready:
                    raise GitError(f"nothing came for {_STALLED_SECONDS:.0f} s")
                for key, _ in ready:
                    part = os.read(key.fd, 1 << 16)
                    if not part:
                        open_pipes.unregister(key.fileobj)
                    key.data.extend(part)
                    if key.data is not self._out:
                        self._hear(key.data, is_end=not part)
        self._process.wait()
        return bytes(self._out)

    def _hear(self, text: bytearray, *, is_end: bool) -> None:
        *lines, rest = text.replace(b"\r", b"\n").split(b"\n")
        text[:] = b"" if is_end else rest[-_MAX_SAID:]
        for line in (*lines, rest) if is_end else lines:
            words = line.decode("utf-8", "replace").strip()
            if words and self._told is not None:
                self._told(words)
            if words and ("%" not in words):
                self._said = [*self._said[-20:], words[:_MAX_SAID]]

    def problem(self) -> str:
        """Return what it said last, without its progress."""
        marks = ("fatal:", "error:", "remote:", "ssh:", "Permission denied", "Host key")
        first = (n for n, line in enumerate(self._said) if line.startswith(marks))
        named = self._said[next(first, -1) :]
        return mask_credentials(" ".join(named))[:_MAX_SAID]
