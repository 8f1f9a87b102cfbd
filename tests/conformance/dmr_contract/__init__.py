"""What a Docker Model Runner must answer, as plain functions over HTTP.

Each module holds the cases of one topic and registers them by ``case``; importing this package
fills the registry ``CASES``. The cases know the contract's text (docs/model-runner.md, by section)
and nothing of any runner's code: they are run against the embedded runner, against a real Docker
Model Runner and against deliberately broken ones.
"""

from __future__ import annotations

from dmr_contract import (
    admin,
    chat,
    configure,
    embeddings,
    honesty,
    loading,
    models,
    naming,
    openai_views,
    pull,
    rerank,
    routing,
)
from dmr_contract.target import (
    CASES,
    INFERENCE_MODES,
    Case,
    FaultControls,
    Need,
    NotApplicable,
    PullFault,
    Target,
)

__all__ = [
    "CASES",
    "INFERENCE_MODES",
    "Case",
    "FaultControls",
    "Need",
    "NotApplicable",
    "PullFault",
    "Target",
    "admin",
    "chat",
    "configure",
    "embeddings",
    "honesty",
    "loading",
    "models",
    "naming",
    "openai_views",
    "pull",
    "rerank",
    "routing",
]
