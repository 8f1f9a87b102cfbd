"""A cross-encoder as ONNX that counts the words which query and passage share.

No reranker's weights come in a package. This graph has inputs, output and ``config.json``
of an exported one, reads a pair as those do, by its token types, and its order means something.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

_BIAS: Final = -4.5
"""Puts pairs of which little is shared below 0, as logits are."""


def write_overlap_reranker(tokenizer: Path, folder: Path) -> None:
    """Write ``model.onnx``, ``config.json`` and a copy of the tokenizer.

    Args:
        tokenizer: A BERT ``tokenizer.json``, which gives the second text the token type 1.
        folder: To be made.
    """
    folder.mkdir(parents=True)
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    config = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "max_position_embeddings": 512,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["input_ids", "two"], ["columns"]),
        node("Unsqueeze", ["input_ids", "one"], ["rows"]),
        node("Equal", ["columns", "rows"], ["same"]),
        node("Cast", ["same"], ["equal"], to=TensorProto.INT64),
        node("Sub", ["unit", "token_type_ids"], ["of_query"]),
        node("Unsqueeze", ["of_query", "two"], ["query"]),
        node("Unsqueeze", ["token_type_ids", "one"], ["passage"]),
        node("Mul", ["query", "passage"], ["pairs"]),
        node("Mul", ["pairs", "equal"], ["shared"]),
        node("ReduceSum", ["shared", "both"], ["count"], keepdims=0),
        node("Cast", ["count"], ["number"], to=TensorProto.FLOAT),
        node("Add", ["number", "bias"], ["score"]),
        node("Unsqueeze", ["score", "one"], ["logits"]),
    ]
    constants = {
        "unit": np.array(1, np.int64),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "both": np.array([1, 2], np.int64),
        "bias": np.array(_BIAS, np.float32),
    }
    value = helper.make_tensor_value_info
    names = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        nodes,
        "overlap",
        [value(name, TensorProto.INT64, ["batch", "tokens"]) for name in names],
        [value("logits", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
