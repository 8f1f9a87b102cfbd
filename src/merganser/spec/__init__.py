"""The language: frozen models of the YAML, and the checks that give every error a position.

``base`` holds the scalar types; ``models``, ``agents``, ``rag``, ``flows``, ``evaluation`` and
``root`` the spec models; ``later`` the keys that are known but not run; ``sections`` the table of
which keys stand where; ``document``, ``keys``, ``template``, ``references`` and ``messages`` the
checks.
"""

from merganser.spec.agents import AgentSpec, FilesystemToolset, RagMode, RagToolset, ToolsetSpec
from merganser.spec.document import SpecWarning
from merganser.spec.evaluation import GateSpec, ThresholdSpec
from merganser.spec.flows import (
    BatchFlowSpec,
    EvaluateFlowSpec,
    FlowSpec,
    IndexFlowSpec,
    RetriesSpec,
    ScheduleSpec,
)
from merganser.spec.models import ModelSpec, ProviderOptions, ProviderSpec
from merganser.spec.rag import (
    Bm25Spec,
    ChunkedEmbeddingsSpec,
    ChunkingSpec,
    FusionSpec,
    RagSpec,
    RerankingSpec,
    ResultsSpec,
    ScoreNormalization,
    Similarity,
    StrategySpec,
    ToolSpec,
)
from merganser.spec.root import MetadataSpec, Spec

__all__ = [
    "AgentSpec",
    "BatchFlowSpec",
    "Bm25Spec",
    "ChunkedEmbeddingsSpec",
    "ChunkingSpec",
    "EvaluateFlowSpec",
    "FilesystemToolset",
    "FlowSpec",
    "FusionSpec",
    "GateSpec",
    "IndexFlowSpec",
    "MetadataSpec",
    "ModelSpec",
    "ProviderOptions",
    "ProviderSpec",
    "RagMode",
    "RagSpec",
    "RagToolset",
    "RerankingSpec",
    "ResultsSpec",
    "RetriesSpec",
    "ScheduleSpec",
    "ScoreNormalization",
    "Similarity",
    "Spec",
    "SpecWarning",
    "StrategySpec",
    "ThresholdSpec",
    "ToolSpec",
    "ToolsetSpec",
]
