"""A reranker with a random head, for tests of the wire format only.

No reranker's weights come in a package. This one is MiniLM with seeded random numbers where a
trained classifier would be: its answers have the right form and are the same every time, its order
means nothing. It says so in ``general.name`` and ``general.description``, and its Model JSON shows
``merganser.synthetic``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from merganser.runner.artifacts import Artifact, gguf_artifact
from tests.doubles.bert_gguf import BertSource, convert_bert_to_gguf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SYNTHETIC_NAME: Final = "synthetic-reranker (random head, order is meaningless)"

_SEED: Final = 7
_HIDDEN: Final = 384


def write_synthetic_reranker(weights: Mapping[str, Path], target: Path) -> Artifact:
    """Write the GGUF file and describe it.

    Args:
        weights: MiniLM's files by name.
        target: The file to write.

    Raises:
        MissingExtraError: The extra ``embedded-chat`` is not installed.
    """
    random = np.random.default_rng(_SEED)
    head = {
        "classifier.weight": random.normal(0, 0.3, (1, _HIDDEN)).astype(np.float32),
        "classifier.bias": np.full(1, 0.1, np.float32),
    }
    source = BertSource(
        weights["config.json"],
        weights["tokenizer.json"],
        weights["model.safetensors"],
        name=SYNTHETIC_NAME,
        description="For tests of the wire format. It cannot rank.",
        synthetic=True,
    )
    convert_bert_to_gguf(source, target, rank=True, extra=head)
    return gguf_artifact(target, source="synthetic")
