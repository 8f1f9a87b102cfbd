"""Scans of the live chunks of a snapshot's segments: nearest vectors, postings, and keys.

Each takes a cursor of a snapshot, on which the catalogue is ``g`` and each segment ``s<number>``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from merganser.store import arrow
from merganser.store.filters import Filter, live_rows
from merganser.store.rows import Postings
from merganser.store.segments import KEY_SHIFT
from merganser.store.tokens import SPELLED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import duckdb
    from numpy.typing import NDArray

    from merganser.store.catalogue import SegmentRow

Similarity = Literal["cosine_similarity", "dot_product", "euclidean"]

_SCORES: Mapping[str, str] = {
    "cosine_similarity": "array_cosine_similarity(v, {0})",
    "dot_product": "array_inner_product(v, {0})",
    "euclidean": "1 / (1 + array_distance(v, {0}))",
}


def key_of_row(segment: int, row: str = "row") -> str:
    """Return SQL for the keys of a segment's rows."""
    return f"({segment}::BIGINT << {KEY_SHIFT}) + {row}"


def scan_nearest(
    cursor: duckdb.DuckDBPyConnection,
    segments: Sequence[SegmentRow],
    vector: NDArray[np.float32],
    k: int,
    *,
    where: Filter | None,
    similarity: Similarity,
    but: Collection[int],
) -> list[tuple[int, float]]:
    """Return the keys and scores of the nearest vectors, best first; see ``dense_top_k``.

    Args:
        cursor: Of the snapshot.
        segments: With vectors of the query's length.
        vector: (dimensions,) float32, the query.
        k: How many, at least 1.
        where: Restricts the chunks before the best are taken.
        similarity: What makes the scores.
        but: Numbers of segments to leave out.
    """
    # As text: DuckDB 1.5 takes 23 ms for a list of 384 numbers, 0.7 ms for its text.
    score = _SCORES[similarity].format(f"$1::FLOAT[{len(vector)}]")
    parts = [
        f"SELECT {key_of_row(number)} AS key, {score} AS score FROM s{number}.vectors "  # noqa: S608 - names and numbers of our own
        f"{condition}"
        for number, condition in live_rows(cursor, segments, where)
        if number not in but
    ]
    if not parts:
        return []
    text = "[" + ",".join(map(repr, vector.astype(np.float32).tolist())) + "]"
    return [
        (int(key), float(value))
        for key, value in cursor.execute(
            " UNION ALL ".join(parts) + f" ORDER BY score DESC, key LIMIT {int(k)}", [text]
        ).fetchall()
    ]


def scan_cosines(
    cursor: duckdb.DuckDBPyConnection, vector: NDArray[np.float32], keys: Sequence[int]
) -> dict[int, float]:
    """Return the cosines of some vectors, by key; only the blocks that hold them are read.

    Args:
        cursor: Of the snapshot.
        vector: (dimensions,) float32, the query.
        keys: Of live chunks, at least one.
    """
    score = _SCORES["cosine_similarity"].format(f"$1::FLOAT[{len(vector)}]")
    parts = [
        # Equality is pushed into the scan; a list is not where its ends are far apart.
        f"SELECT {key_of_row(key >> KEY_SHIFT)}, {score} FROM s{key >> KEY_SHIFT}.vectors "  # noqa: S608 - numbers of our own
        f"WHERE row = {key & (1 << KEY_SHIFT) - 1}"
        for key in keys
    ]
    text = "[" + ",".join(map(repr, vector.astype(np.float32).tolist())) + "]"
    found = cursor.execute(" UNION ALL ".join(parts), [text]).fetchall()
    return {int(key): float(cosine) for key, cosine in found}


def scan_keys(
    cursor: duckdb.DuckDBPyConnection, segments: Sequence[SegmentRow], where: Filter | None = None
) -> NDArray[np.int64]:
    """Return the keys of the live chunks that a filter lets through, ascending."""
    keys = [np.zeros(0, dtype=np.int64)]
    for number, condition in live_rows(cursor, segments, where):
        query = f"SELECT row FROM s{number}.chunks {condition} ORDER BY row"  # noqa: S608 - names and numbers of our own
        rows = arrow.fetch_columns(cursor, query)["row"]
        keys.append(rows.astype(np.int64) | np.int64(number << KEY_SHIFT))
    return np.concatenate(keys)


def scan_postings(
    cursor: duckdb.DuckDBPyConnection,
    segments: Sequence[SegmentRow],
    terms: Sequence[str],
    where: Filter | None,
) -> Postings:
    """Find where distinct terms occur in the live chunks that a filter lets through."""
    empty = np.zeros(0, dtype=np.int64)
    parts: list[dict[str, NDArray[Any]]] = [
        {"term_index": empty, "key": empty, "tf": empty, "doc_len": empty}
    ]
    if terms:
        order = np.arange(len(terms), dtype=np.int32)
        cursor.register("asked", arrow.make_table({"term_index": order, "term": terms}))
        for number, condition in live_rows(cursor, segments, where):
            # The terms first: with their numbers as constants the scan of the postings,
            # which are sorted by term, skips all row groups that hold none of them.
            matches = cursor.execute(
                f"SELECT t.term_id, a.term_index FROM s{number}.terms t "  # noqa: S608 - names and numbers of our own
                "JOIN asked a ON t.term = a.term"
            ).fetchall()
            if matches:
                parts.append(_read_postings(cursor, number, condition, dict(matches)))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((joined["key"], joined["term_index"]))
    return Postings(
        term_index=joined["term_index"][order].astype(np.int32),
        key=joined["key"][order].astype(np.int64),
        tf=joined["tf"][order].astype(np.uint8),
        doc_len=joined["doc_len"][order].astype(np.int32),
    )


def scan_spellings(
    cursor: duckdb.DuckDBPyConnection, segments: Sequence[SegmentRow], bases: Sequence[str]
) -> dict[str, list[str]]:
    """Return by base term the terms that say how its words are spelled, of all segments."""
    found: dict[str, dict[str, None]] = {base: {} for base in bases}
    if bases:
        after = chr(ord(SPELLED) + 1)
        inside = " OR ".join("(term >= ? AND term < ?)" for _ in bases)
        bounds = [base + end for base in bases for end in (SPELLED, after)]
        for number, _ in live_rows(cursor, segments, None):
            query = f"SELECT term FROM s{number}.terms WHERE {inside}"  # noqa: S608 - a number of our own
            for (term,) in cursor.execute(query, bounds).fetchall():
                found[term.partition(SPELLED)[0]][term] = None
    return {base: [*terms] for base, terms in found.items()}


def _read_postings(
    cursor: duckdb.DuckDBPyConnection, number: int, condition: str, matches: Mapping[int, int]
) -> dict[str, NDArray[Any]]:
    listed = ",".join(str(term_id) for term_id in matches)
    found = arrow.fetch_columns(
        cursor,
        f"SELECT p.term_id, p.row AS key, p.tf, c.doc_len FROM s{number}.postings p JOIN "  # noqa: S608 - names and numbers of our own
        f"(SELECT row, doc_len FROM s{number}.chunks {condition}) c USING (row) "
        f"WHERE p.term_id IN ({listed})",
    )
    ids = np.fromiter(matches, dtype=np.int64, count=len(matches))
    order = np.argsort(ids)
    indexes = np.fromiter(matches.values(), dtype=np.int64, count=len(matches))[order]
    found["term_index"] = indexes[np.searchsorted(ids[order], found.pop("term_id"))]
    found["key"] = found["key"].astype(np.int64) | np.int64(number << KEY_SHIFT)
    return found
