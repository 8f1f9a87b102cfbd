"""Run a seeded sample of each long proof, or all of it.

A proof is a test with ``@pytest.mark.proof`` and many parameters: each kind of damage, each point
of a kill. The default run takes a few, always the same ones; ``make proofs`` sets
``MERGANSER_PROOFS=all`` and runs every one. A case that is named on the command line runs too.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

SEED = 20261130
SAMPLE = 3
"""Cases of a proof that the default run takes, unless its mark says ``sample=N``."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the cases of proofs out that are not in the sample."""
    if os.environ.get("MERGANSER_PROOFS") == "all":
        return
    proofs: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("proof") and not _is_named(item, config.args):
            proofs[item.nodeid.partition("[")[0]].append(item)
    left_out = {
        item for name, cases in proofs.items() for item in set(cases) - set(_draw(name, cases))
    }
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))


def _draw(name: str, cases: Sequence[pytest.Item]) -> list[pytest.Item]:
    mark = cases[0].get_closest_marker("proof")
    count: int = mark.kwargs.get("sample", SAMPLE) if mark else SAMPLE
    # By name, so that a new case of one proof leaves the samples of all others as they are.
    draw = random.Random(f"{SEED} {name}")  # noqa: S311 - reproducible, no secret
    return draw.sample(cases, min(count, len(cases)))


def _is_named(item: pytest.Item, arguments: Sequence[str]) -> bool:
    name = item.nodeid.rpartition("::")[2]
    return "[" in name and any(argument.endswith(f"::{name}") for argument in arguments)
