"""Texts by what they say: their hashes, and where those are that were seen before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def hash_texts(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Hash texts.

    Returns:
        (n_texts, 2) uint64: the halves of each 16-byte BLAKE2b of the text's UTF-8.
    """
    blake2b = hashlib.blake2b
    digests = [blake2b(t.encode("utf-8", "surrogatepass"), digest_size=16).digest() for t in texts]
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64).reshape(-1, 2)


def keys_of(hashes: NDArray[np.uint64]) -> list[bytes]:
    """Return each text's 16 bytes, for dicts: (n, 2) uint64 in, n keys out."""
    keys: list[bytes] = np.ascontiguousarray(hashes).view("V16").reshape(-1).tolist()
    return keys


@dataclass(frozen=True, slots=True, eq=False)
class TextPlaces:
    """Where the vectors of texts are, by the texts' hashes.

    Attributes:
        high: (n,) uint64, the high half of each hash.
        low: (n,) uint64, the low half, ascending.
        source: (n,) int32, number of the file.
        row: (n,) int32, row in the file.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    source: NDArray[np.int32]
    row: NDArray[np.int32]

    @classmethod
    def make(
        cls, hashes: NDArray[np.uint64], source: NDArray[np.int32], row: NDArray[np.int32]
    ) -> TextPlaces:
        """Make it of hashes, (n, 2) uint64, in any order."""
        order = np.argsort(hashes[:, 1], kind="stable")
        return cls(hashes[order, 0], hashes[order, 1], source[order], row[order])

    def locate(
        self, hashes: NDArray[np.uint64], source: NDArray[np.int32], row: NDArray[np.int32]
    ) -> None:
        """Fill in the places of the texts that are here.

        Args:
            hashes: (n, 2) uint64, as ``hash_texts`` returns them.
            source: (n,) int32, changed.
            row: (n,) int32, changed.
        """
        if len(self.low) == 0:
            return
        at = np.minimum(np.searchsorted(self.low, hashes[:, 1]), len(self.low) - 1)
        hit = (self.low[at] == hashes[:, 1]) & (self.high[at] == hashes[:, 0])
        source[hit] = self.source[at[hit]]
        row[hit] = self.row[at[hit]]
