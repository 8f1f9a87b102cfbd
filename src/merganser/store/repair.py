"""Mend what needs no model: which snapshot is served, and the files that can be done without.

What is left, segments whose files have to be read again, is the work of an index run with
``repair``. Each step leaves an index that is no worse than before: what cannot be used is moved to
``damaged/`` or was no data, and ``CURRENT`` is replaced in one step.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from merganser.errors import StoreError
from merganser.store.ann import approximate_path
from merganser.store.catalogue import read_catalogue
from merganser.store.folder import Current, IndexFolder
from merganser.store.identity import FileMark, wal_of
from merganser.store.snapshots import collect, next_numbers, readable
from merganser.store.verification import verify_index
from merganser.store.writer_lock import WriterLock

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from merganser.store.verification import Verification


@dataclass(frozen=True, slots=True)
class Mended:
    """What was done without a model.

    Attributes:
        done: One line a step.
        needs_run: Whether an index run has to do the rest.
    """

    done: tuple[str, ...]
    needs_run: bool


def repair_files(folder: Path) -> Mended:
    """Mend an index as far as it can be without its sources and its model.

    Raises:
        StoreBusyError: A run is writing.
        StoreFormatError: The folder is no index, or of a newer merganser.
        StoreError: The folder cannot be written.
    """
    index = IndexFolder(folder)
    if not folder.is_dir():
        return Mended((), needs_run=False)
    lock = WriterLock(index)
    try:
        done = _remove_logs(index)
        found = verify_index(folder, read_data=True)
        done += _remove_small(index, found)
        current, moved = _choose_served(index, found)
        done += moved
        is_another = any(fault.kind in {"CURRENT", "catalogue"} for fault in found.faults)
        is_whole = current is None or current.generation in found.snapshots
        if current is not None and is_whole and not is_another:
            collect(index, current)
        return Mended(tuple(done), needs_run=is_another or not is_whole)
    except OSError as error:
        raise StoreError(f"cannot repair the index {str(folder)!r}: {error}") from error
    finally:
        lock.release()


def _remove_logs(index: IndexFolder) -> list[str]:
    """Remove what other programs would have changed in files that never change."""
    done: list[str] = []
    for path in sorted(index.path.glob("[gs]*.duckdb")):
        if wal_of(path).exists():
            wal_of(path).unlink()
            done.append(f"removed {wal_of(path).name!r}")
    return done


def _remove_small(index: IndexFolder, found: Verification) -> list[str]:
    """Remove damaged graphs, journals and caches; move a damaged history away."""
    done: list[str] = []
    for fault in found.of("graph"):
        approximate_path(index.segment(fault.number)).unlink(missing_ok=True)
        done.append(f"removed {fault.file!r}")
    for fault in found.of("journal"):
        path = index.path / fault.file
        for journal in [path] if path.suffix == ".npz" else [*path.parent.glob("*")]:
            journal.unlink(missing_ok=True)
        done.append(f"removed {fault.file!r}")
    for fault in found.of("cache"):
        _remove(index.scan_cache)
        done.append(f"removed {fault.file!r}")
    for _ in found.of("history"):
        done += _set_aside(index, [index.history, wal_of(index.history)])
    return done


def _choose_served(index: IndexFolder, found: Verification) -> tuple[Current | None, list[str]]:
    """Serve the newest snapshot that can be read, and drop kept ones that nothing can mend."""
    broken = {fault.number for fault in found.of("catalogue")}
    if not found.faults:
        return index.read_current(), []
    lost = bool(found.of("CURRENT"))
    before = None if lost else index.read_current()
    kept = before.kept if before else index.catalogues_on_disk()[::-1]
    good = [generation for generation in kept if generation not in broken]
    if lost or (before is not None and before.generation in broken):
        # One that is whole can be served meanwhile; of one that is not, rows and files are known.
        good.sort(key=lambda generation: generation not in found.snapshots)
    good = [g for i, g in enumerate(good) if i == 0 or g in found.snapshots]
    if not good:  # CURRENT may be an older one, whose snapshots are gone
        others = {*index.catalogues_on_disk()} - {*kept}
        good = [*readable(index, sorted(others, reverse=True))[:1]]
    done = _set_aside(index, [index.catalogue(generation) for generation in sorted(broken)])
    if not good:
        rest = [index.catalogue(generation) for generation in index.catalogues_on_disk()]
        return None, done + _set_aside(index, [index.path / "CURRENT", *rest])
    generation, segment = next_numbers(index)
    marks = dict(before.marks) if before else {}
    current = Current(
        generation=good[0],
        kept=tuple(good),
        next_generation=max(generation, before.next_generation if before else 0, *kept) + 1,
        next_segment=max(segment, before.next_segment if before else 0),
        marks={g: marks.get(g) or _mark(index, g) for g in good},
    )
    if before is not None and current.kept == before.kept:
        return before, done
    index.write_current(current)
    dropped = sorted({*kept} - {*good} - broken)
    done += [f"dropped snapshot {number}, which needs a damaged segment" for number in dropped]
    return current, [*done, f"snapshot {good[0]} is served"]


def _mark(index: IndexFolder, generation: int) -> FileMark:
    path = index.catalogue(generation)
    return FileMark.of(path, read_catalogue(path).meta.get("run_id", ""))


def _set_aside(index: IndexFolder, paths: Iterable[Path]) -> list[str]:
    """Move files out of the way; what was moved there under the same name before is replaced."""
    done: list[str] = []
    for path in paths:
        if path.exists() or path.is_symlink():
            index.damaged.mkdir(exist_ok=True)
            target = index.damaged / path.name
            _remove(target)
            path.rename(target)
            done.append(f"moved {path.name!r} to {index.damaged.name!r}")
    return done


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
