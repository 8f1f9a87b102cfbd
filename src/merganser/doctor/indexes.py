"""Look at the index folders of a config: what stands there, how old it is, whether a run can write.

Reads the folders and asks nothing over the network, so it works where no model server does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from merganser.doctor.servers import Check
from merganser.errors import StoreError, StoreFormatError
from merganser.humanize import show_age
from merganser.store.ann import approximate_path, read_approximate
from merganser.store.folder import IndexFolder
from merganser.store.history import list_runs
from merganser.store.snapshots import SnapshotInfo, list_snapshots
from merganser.store.verification import verify_index

if TYPE_CHECKING:
    from pathlib import Path

    from merganser.config.index_definition import IndexDefinition

_FOREIGN_FIX = "name another folder with `database`; what stands there is left as it is"
_DAMAGE_FIX = "`merganser repair FILE` mends it; `merganser verify FILE` lists all that is damaged"


@dataclass(frozen=True, slots=True)
class IndexDiagnosis:
    """One index folder.

    Attributes:
        name: The index's name in the config.
        folder: The index folder.
        snapshots: The kept ones, newest first; none when nothing is served or it is damaged.
        checks: What was looked at.
    """

    name: str
    folder: str
    snapshots: tuple[SnapshotInfo, ...]
    checks: tuple[Check, ...]

    @property
    def served(self) -> SnapshotInfo | None:
        """The served snapshot, or None."""
        return next((one for one in self.snapshots if one.served), None)

    @property
    def healthy(self) -> bool:
        """Whether nothing that was found stops a run."""
        return all(check.level != "problem" for check in self.checks)


def diagnose_index(definition: IndexDefinition, *, now: datetime | None = None) -> IndexDiagnosis:
    """Look at one index; never raises for what is wrong with it.

    Args:
        definition: The index.
        now: For its age, with time zone; the present by default.
    """
    name, folder = definition.name, definition.folder
    snapshots: tuple[SnapshotInfo, ...] = ()
    checks = [_check_writable(name, folder)]
    try:
        snapshots = list_snapshots(folder)
        checks.append(_check_snapshots(name, snapshots, now or datetime.now(UTC)))
        checks += _check_graphs(name, IndexFolder(folder))
        checks += _check_whole(name, folder)
    except StoreError as error:
        fix = _FOREIGN_FIX if isinstance(error, StoreFormatError) else _DAMAGE_FIX
        checks.append(Check(f"index {name}", "problem", str(error), fix=fix))
    else:
        checks += _check_last_run(name, IndexFolder(folder))
    return IndexDiagnosis(name, str(folder), snapshots, tuple(checks))


def _check_writable(name: str, folder: Path) -> Check:
    """Look at the folder, or at the nearest one above it that exists."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    title = f"write permission {name}"
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Check(title, "ok", str(folder))
    kind = "not writable" if place.is_dir() else "not a folder"
    fix = "make it writable, or name another place with `database`"
    return Check(title, "problem", f"{str(place)!r} is {kind}", fix=fix)


def _check_snapshots(name: str, snapshots: tuple[SnapshotInfo, ...], now: datetime) -> Check:
    served = next((one for one in snapshots if one.served), None)
    if served is None:
        return Check(f"index {name}", "note", "nothing is indexed yet; `merganser index` does it")
    age = show_age((now - served.created_at).total_seconds())
    detail = (
        f"snapshot {served.generation} is {age} old, {served.files:,} files, "
        f"{served.chunks:,} chunks; {len(snapshots)} kept"
    )
    if served.recall is not None:
        detail += f"; {served.approximate:.0%} approximate, recall@10 {served.recall:.3f}"
    if served.rejected_recall is not None:
        detail += (
            f"; an approximate index reached recall@10 {served.rejected_recall:.3f} only and is "
            "not used: searches are exact"
        )
    return Check(f"index {name}", "ok", detail)


def _check_whole(name: str, folder: Path) -> list[Check]:
    """Return a problem for each file that is damaged, as far as is seen without reading it.

    Graphs have a check of their own: without one, searches are exact.
    """
    return [
        Check(f"index {name}", "problem", f"{fault.file!r} {fault.problem}", fix=_DAMAGE_FIX)
        for fault in verify_index(folder, read_data=False).faults
        if fault.kind != "graph"
    ]


def _check_graphs(name: str, index: IndexFolder) -> list[Check]:
    """Return a note that names the approximate graphs that are not used, if there are any."""
    paths = [approximate_path(index.segment(number)) for number in index.graphs_on_disk()]
    rejected = [path.name for path in paths if path.exists() and read_approximate(path) is None]
    if not rejected:
        return []
    detail = f"not used, damaged or of another format: {', '.join(rejected)}; searches are exact"
    fix = "the next run that publishes builds it anew where the extra [ann] is installed"
    return [Check(f"approximate graph {name}", "note", detail, fix=fix)]


def _check_last_run(name: str, index: IndexFolder) -> list[Check]:
    """Return what became of the last run; the served snapshot is older if it failed."""
    title = f"last run {name}"
    try:
        runs = list_runs(index, limit=1)
    except StoreError as error:
        return [Check(title, "note", str(error))]
    if not runs:
        return []
    (run,) = runs
    if run.status == "failed":
        detail = f"failed at {run.finished:%Y-%m-%d %H:%M} UTC: {run.error}"
        return [Check(title, "note", detail, fix="mend that and run `merganser index` again")]
    failed = f", {run.failed} files failed" if run.failed else ""
    level = "note" if run.failed else "ok"
    return [Check(title, level, f"{run.status} at {run.finished:%Y-%m-%d %H:%M} UTC{failed}")]
