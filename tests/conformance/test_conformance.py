"""Every case of the contract, against the embedded runner or a real Docker Model Runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from dmr_contract import CASES, NotApplicable

if TYPE_CHECKING:
    from dmr_contract import Case, Need, Target

REFUSALS: dict[Need, str] = {
    "faults": "needs faults injected, and a real runner has no way for that",
    "store": "would pull, tag, load or delete models, and these are the user's own",
    "everything": "would end all engines and forget all configs, and these are the user's own",
    "embedded": "is a duty of servers that stand in for Docker's",
    "docker": "is a route that our client never calls, so the embedded runner lacks it",
}


def test_names_and_sections_of_the_cases() -> None:
    assert len(CASES) >= 100
    assert all(case.section[0].isdigit() for case in CASES.values())


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.section}-{case.name}") for case in CASES.values()]
)
def test_contract(case: Case, target: Target) -> None:
    for need in sorted(case.needs - granted(target)):
        pytest.skip(REFUSALS[need])
    try:
        case.run(target)
    except NotApplicable as reason:
        pytest.skip(str(reason))


def granted(target: Target) -> set[Need]:
    """Return what this target allows beyond HTTP."""
    needs: set[Need] = set()
    if target.faults is not None:
        needs.add("faults")
    needs.add("embedded" if target.embedded else "docker")
    if target.embedded or target.disposable:
        needs |= {"store", "everything"}
    return needs
