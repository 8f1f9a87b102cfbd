"""Convert a BERT encoder or cross-encoder from safetensors to GGUF, without PyTorch.

llama.cpp serves the result for embeddings (mean pooling) or, with ``rank``, for reranking. The
upstream converter drops ``bert.pooler.dense`` of cross-encoders, which moves their scores to
another scale; here it becomes ``cls``, to which llama.cpp applies the tanh, and the classifier
becomes ``cls.output``.
"""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from merganser.runner.libraries import load_library

if TYPE_CHECKING:
    from pathlib import Path

Tensors = dict[str, np.ndarray[Any, Any]]
NumberFormat = Literal["f32", "f16", "q8_0"]

_FILE_TYPES: Final = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
_WORD_START: Final = "\u2581"
# What llama.cpp's own converter detects for this vocabulary.
_PRE_TOKENIZER: Final = "jina-v2-en"


@dataclass(frozen=True, slots=True)
class BertSource:
    """A model to convert.

    Attributes:
        config: Its ``config.json``.
        tokenizer: Its ``tokenizer.json`` (WordPiece).
        weights: Its ``model.safetensors``.
        name: Goes into ``general.name``.
        description: Goes into ``general.description`` if not empty.
        synthetic: Mark the file as made up; its Model JSON then says so.
    """

    config: Path
    tokenizer: Path
    weights: Path
    _: KW_ONLY
    name: str
    description: str = ""
    synthetic: bool = False


def convert_bert_to_gguf(
    source: BertSource,
    target: Path,
    *,
    numbers: NumberFormat = "f16",
    rank: bool = False,
    extra: Tensors | None = None,
) -> None:
    """Write a GGUF file.

    Args:
        source: What to convert.
        target: The file to write.
        numbers: Format of the large matrices; the small tensors stay float32.
        rank: Write a reranker instead of an embedding model.
        extra: Tensors that are added to those of the file, or replace them.

    Raises:
        MissingExtraError: The extra ``embedded-chat`` is not installed.
        ValueError: A tensor has no place in a BERT model.
    """
    gguf = load_library("gguf")
    parameters: dict[str, Any] = json.loads(source.config.read_text(encoding="utf-8"))
    tensors: Tensors = load_library("safetensors.numpy").load_file(source.weights)
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.BERT])
    try:
        _write_parameters(writer, gguf, parameters, source)
        writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[numbers]])
        writer.add_pooling_type(gguf.PoolingType.RANK if rank else gguf.PoolingType.MEAN)
        _write_vocabulary(writer, gguf, source.tokenizer, parameters)
        kind = gguf.GGMLQuantizationType[numbers.upper()]
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, parameters["num_hidden_layers"])
        for name, values in {**tensors, **(extra or {})}.items():
            new_name = _tensor_name(name.removeprefix("bert."), names, rank=rank)
            if new_name:
                _write_tensor(writer, gguf, new_name, values.astype(np.float32), kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _write_parameters(
    writer: Any, gguf: Any, parameters: dict[str, Any], source: BertSource
) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(source.name)
    if source.description:
        writer.add_description(source.description)
    if source.synthetic:
        writer.add_bool("merganser.synthetic", True)
    writer.add_block_count(parameters["num_hidden_layers"])
    writer.add_context_length(parameters["max_position_embeddings"])
    writer.add_embedding_length(parameters["hidden_size"])
    writer.add_feed_forward_length(parameters["intermediate_size"])
    writer.add_head_count(parameters["num_attention_heads"])
    writer.add_layer_norm_eps(parameters["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _write_vocabulary(writer: Any, gguf: Any, tokenizer: Path, parameters: dict[str, Any]) -> None:
    """Write WordPiece as llama.cpp wants it: word starts marked, continuations bare."""
    document: dict[str, Any] = json.loads(tokenizer.read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = document["model"]["vocab"]
    special = {entry["content"] for entry in document["added_tokens"] if entry["special"]}
    tokens = list[str]()
    kinds = list[Any]()
    for token in sorted(vocabulary, key=vocabulary.__getitem__):
        is_special = token in special
        kinds.append(gguf.TokenType.CONTROL if is_special else gguf.TokenType.NORMAL)
        tokens.append(token if is_special else _mark(token))
    writer.add_token_type_count(parameters.get("type_vocab_size", 1))
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre(_PRE_TOKENIZER)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    normalizer: dict[str, Any] = document.get("normalizer") or {}
    lowercase = bool(normalizer.get("lowercase", True))
    writer.add_bool("tokenizer.ggml.normalizer.lowercase", lowercase)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    for name, add in (
        ("[UNK]", writer.add_unk_token_id),
        ("[SEP]", writer.add_sep_token_id),
        ("[PAD]", writer.add_pad_token_id),
        ("[CLS]", writer.add_bos_token_id),
        ("[MASK]", writer.add_mask_token_id),
        ("[SEP]", writer.add_eos_token_id),
    ):
        if name in vocabulary:
            add(vocabulary[name])


def _mark(token: str) -> str:
    return token[2:] if token.startswith("##") else f"{_WORD_START}{token}"


def _tensor_name(name: str, names: Any, *, rank: bool) -> str:
    """Return llama.cpp's name of a tensor, "" for one that it does not need.

    Raises:
        ValueError: It has none.
    """
    name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
    tail = name.rpartition(".")[2]
    if name == "embeddings.position_ids" or name.startswith("cls."):
        return ""
    if name.startswith("pooler.dense"):
        return f"cls.{tail}" if rank else ""
    if name.startswith("classifier."):
        return f"cls.output.{tail}"
    new_name: str | None = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if new_name is None:
        raise ValueError(f"no place for tensor {name!r} in a BERT model")
    return new_name


def _write_tensor(
    writer: Any, gguf: Any, name: str, values: np.ndarray[Any, Any], kind: Any
) -> None:
    small = values.ndim == 1 or name.startswith(("position_embd", "token_types", "cls"))
    if small or kind == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
