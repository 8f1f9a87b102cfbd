"""A suite that cannot fail proves nothing: each broken runner is seen by a case.

One embedded runner is started, behind middleware that breaks one thing at a time. For each mutation
the case that should see it passes unbroken first, so that its failure means the mutation and
nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from dmr_contract import CASES, NotApplicable
from dmr_contract.mutations import MUTATIONS
from embedded_target import real_root, start_embedded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dmr_contract import Case, Target
    from dmr_contract.edits import Mutation
    from embedded_target import RunningTarget

pytestmark = pytest.mark.skipif(bool(real_root()), reason="a real runner cannot be broken")

PASSED: set[str] = set()
"""Cases that were seen to pass unbroken; once is enough."""


@pytest.fixture(scope="module")
def breakable(
    model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningTarget]:
    with start_embedded(model_cache, tmp_path_factory.mktemp("reranker")) as running:
        yield running


def test_mutations_name_cases_that_exist() -> None:
    assert len(MUTATIONS) >= 60
    assert {mutation.likely for mutation in MUTATIONS.values()} <= set(CASES)


@pytest.mark.parametrize("mutation", [pytest.param(m, id=m.name) for m in MUTATIONS.values()])
def test_mutation_is_seen(mutation: Mutation, breakable: RunningTarget) -> None:
    likely = CASES[mutation.likely]
    if likely.name not in PASSED:
        likely.run(breakable.target)
        PASSED.add(likely.name)

    breakable.switch.middleware = mutation.middleware
    try:
        seen_by = first_failure(likely, breakable.target)
    finally:
        breakable.switch.middleware = None
        breakable.tidy()

    assert seen_by, f"no case sees the mutation {mutation.name!r}"


def first_failure(likely: Case, target: Target) -> str:
    """Run cases, the likely one first, until one fails; gives its name or ""."""
    for case in (likely, *(case for case in CASES.values() if case is not likely)):
        try:
            case.run(target)
        except NotApplicable:
            continue
        except (AssertionError, httpx.HTTPError):
            return case.name
    return ""
