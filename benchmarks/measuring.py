"""What benchmarks share: CPU of a command by wait4, of a running service, and median tables."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BYTES_PER_CHUNK = 656
"""Of the reference corpus, cut to a size of 1,000."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a command took.

    Attributes:
        wall: Seconds.
        cpu: User and system seconds of the command and its children that ended.
        rss: Peak resident memory of the command in MB.
        written: MB given to the disk by the command.
        output: Its standard output.
    """

    wall: float
    cpu: float
    rss: float
    written: float
    output: bytes


def run_measured(
    words: Sequence[str], *, folder: Path, environment: Mapping[str, str] | None = None
) -> Measured:
    """Run a command that must succeed.

    Raises:
        SystemExit: It failed; what it said on stderr was shown.
    """
    began = time.monotonic()
    variables = {**os.environ, **(environment or {})}
    # Build machines set it; a user's Python compiles a module once and not at every start.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    with subprocess.Popen(
        words,
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        output, errors = process.stdout, process.stderr
        assert output is not None
        assert errors is not None
        # One after the other: what our commands say on stderr fits into the pipe.
        text, problems = output.read(), errors.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.stderr.write(problems.decode(errors="replace"))
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return Measured(
        wall=time.monotonic() - began,
        cpu=usage.ru_utime + usage.ru_stime,
        rss=usage.ru_maxrss / 1024,
        written=usage.ru_oublock * 512 / 1e6,
        output=text,
    )


def service_cpu(pid: int) -> float:
    """Return the CPU seconds so far of a process and its living descendants."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = {c for task in tasks for c in (task / "children").read_text().split()}
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    own = (int(fields[11]) + int(fields[12])) / _TICKS
    return own + sum(service_cpu(int(child)) for child in children)


def peak_memory() -> float:
    """Return the most that this program had in memory, in MB.

    Not by getrusage: its figure begins with the memory of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [one for one in lines if one.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def default_tree() -> Path:
    """Return the tree named by ``MERGANSER_BENCH_TREE``, else the installed Prefect package."""
    if chosen := os.environ.get("MERGANSER_BENCH_TREE"):
        return Path(chosen)
    spec = importlib.util.find_spec("prefect")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def grow(sources: list[Path], tree: Path, target: Path, size_bytes: int) -> list[Path]:
    """Write marked copies of the files until they are that long together.

    Args:
        sources: In the tree.
        tree: What they are copied from.
        target: Where to; made here.
        size_bytes: Of all copies, about.

    Returns:
        The copies. No two of them share a text.
    """
    files: list[Path] = []
    total = copy = 0
    while total < size_bytes:
        for source in sources:
            lines = source.read_bytes().splitlines()
            mark = f"  # copy {copy}".encode()
            lines[::8] = [line + mark for line in lines[::8]]
            path = target / f"copy{copy}" / source.relative_to(tree)
            path.parent.mkdir(parents=True, exist_ok=True)
            total += path.write_bytes(b"\n".join(lines))
            files.append(path)
            if total >= size_bytes:
                break
        copy += 1
    return files


def medians(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Return the median of each figure over the rounds."""
    return {name: statistics.median(row[name] for row in rows) for name in names}


def print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown: words to the left, numbers to the right."""
    print(f"| {' | '.join(heads)} |")
    print(f"| --- |{' ---: |' * (len(heads) - 1)}")
    for row in rows:
        print(f"| {' | '.join(map(_shown, row))} |")


def _shown(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
