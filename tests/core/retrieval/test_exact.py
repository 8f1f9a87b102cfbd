"""Exact search by bounds gives what the full product gives, whatever the vectors are like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from merganser.retrieval.dense import ExactVectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from numpy.typing import NDArray

    Make: TypeAlias = Callable[[np.random.Generator], NDArray[np.float32]]

_ROWS, _DIMENSIONS = 9_000, 48


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def of_low_rank(random: np.random.Generator) -> NDArray[np.float32]:
    few = random.standard_normal((_ROWS, 6)) @ random.standard_normal((6, _DIMENSIONS))
    return unit(few + 0.05 * random.standard_normal((_ROWS, _DIMENSIONS)))


def of_full_rank(random: np.random.Generator) -> NDArray[np.float32]:
    return unit(random.standard_normal((_ROWS, _DIMENSIONS)))


def of_repeated(random: np.random.Generator) -> NDArray[np.float32]:
    return of_low_rank(random)[random.integers(0, 500, _ROWS)]


@pytest.mark.parametrize("make", [of_low_rank, of_full_rank, of_repeated])
@pytest.mark.parametrize("limit", [1, 20, 2_000, _ROWS, _ROWS + 1])
def test_the_best_are_those_of_the_full_product(make: Make, limit: int):
    random = np.random.default_rng(3)
    vectors = make(random)
    searched = ExactVectors(vectors)

    for query in unit(vectors[:10] + 0.3 * random.standard_normal((10, _DIMENSIONS))):
        rows, cosines = searched.best(query, limit)

        full = vectors @ query
        least = np.sort(full)[-min(limit, _ROWS)]
        assert len(rows) >= min(limit, _ROWS)
        assert set(np.flatnonzero(full > least + 1e-6).tolist()) <= set(rows.tolist())
        assert full[rows].min() >= least - 1e-6
        np.testing.assert_allclose(cosines, full[rows], atol=1e-6)


def test_equals_of_the_last_are_given_too():
    vectors = of_repeated(np.random.default_rng(4))
    searched = ExactVectors(vectors)
    same = np.flatnonzero((vectors == vectors[0]).all(axis=1))

    rows, _ = searched.best(vectors[0], 1)

    assert rows.tolist() == same.tolist()
    assert len(same) > 1


def test_few_of_many_are_looked_at_where_the_first_coordinates_tell():
    random = np.random.default_rng(5)
    vectors = of_low_rank(random)
    searched = ExactVectors(vectors)

    rows = searched._reaching(vectors[0], 20)  # pyright: ignore[reportPrivateUsage] - what is saved shows nowhere else

    assert rows is not None
    assert len(rows) < _ROWS // 8
