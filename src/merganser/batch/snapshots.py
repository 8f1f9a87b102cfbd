"""Identify what a batch searches, so that answers hold as long as the indexes do."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from merganser.config.rag_definition import resolve_rag
from merganser.store import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.config.load import Config


def snapshots_of(config: Config, rags: Sequence[str]) -> str:
    """Identify the served snapshots of rags: equal while no index is published anew.

    Raises:
        NoSnapshotError: A rag has not been indexed yet.
    """
    parts: list[str] = []
    for rag in rags:
        for index in resolve_rag(config, rag).indexes:
            with open_snapshot(index.folder) as snapshot:
                parts.append(f"{rag}:{index.name}:{sorted(snapshot.meta.items())!r}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
