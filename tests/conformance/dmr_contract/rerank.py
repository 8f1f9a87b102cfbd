"""Section 4.3: reranking as llama.cpp answers it, and section 1.3's ``/score``."""

from __future__ import annotations

import math
from typing import Any

from dmr_contract.target import (
    Json,
    Target,
    as_object,
    as_objects,
    assert_engine_error,
    assert_keys,
    assert_whole,
    case,
    words,
)

QUERY = "Which bird dives for fish?"
DOCUMENTS = (
    "The compiler reports a type error in line nine.",
    "A merganser is a duck that dives for fish.",
    "Rain falls in autumn.",
    "The train to Berlin leaves at noon from platform four.",
)

TOO_LARGE = r"input \(\d+ tokens\) is too large to process\..*current batch size: 512\)"

EXCEEDS = r"larger than the max context size|exceeds the available context size"


@case("4.3")
def rerank_has_its_shape(target: Target) -> None:
    answer = as_object(target.rank(QUERY, DOCUMENTS))

    assert_keys(answer, {"model", "object", "usage", "results"}, set(), "answer")
    assert answer["object"] == "list", answer
    assert answer["model"] == target.rerank_model, "the model is echoed"
    assert_whole(answer["usage"]["prompt_tokens"], "prompt_tokens", least=len(DOCUMENTS))
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"], answer
    for result in answer["results"]:
        assert_keys(result, {"index", "relevance_score"}, set(), "result")
        assert isinstance(result["relevance_score"], float | int), result
        assert math.isfinite(result["relevance_score"]), result


@case("4.3")
def rerank_names_each_document_once(target: Target) -> None:
    results = ranked(target)

    assert sorted(result["index"] for result in results) == [0, 1, 2, 3]


@case("4.3")
def rerank_is_sorted_by_score(target: Target) -> None:
    """Ask twice, because one order of the documents may be the sorted one by chance."""
    for documents in (DOCUMENTS, DOCUMENTS[::-1]):
        results = ranked(target, documents=documents)
        scores = [result["relevance_score"] for result in results]

        assert scores == sorted(scores, reverse=True), scores
        assert len(set(scores)) > 1, "equal scores tell nothing about the order"


@case("4.3")
def rerank_is_cut_to_top_n(target: Target) -> None:
    whole = ranked(target)

    assert [result["index"] for result in whole[:2]] == [
        result["index"] for result in ranked(target, top_n=2)
    ]
    assert len(ranked(target, top_n=99)) == len(DOCUMENTS)


@case("4.3")
def rerank_needs_a_query(target: Target) -> None:
    body = {"model": target.rerank_model, "documents": list(DOCUMENTS)}

    assert_engine_error(target.post("/engines/rerank", body), 400, '"query" must be provided')


@case("4.3")
def rerank_needs_documents(target: Target) -> None:
    pattern = '"documents" must be a non-empty string array'
    absent: tuple[Json, ...] = ({}, {"documents": []})
    for fields in absent:
        body = {"model": target.rerank_model, "query": QUERY, **fields}

        assert_engine_error(target.post("/engines/rerank", body), 400, pattern)


@case("4.3")
def rerank_of_texts_is_a_bare_array(target: Target) -> None:
    body = {"model": target.rerank_model, "query": QUERY, "texts": list(DOCUMENTS)}
    answer = as_objects(target.post("/engines/rerank", body))

    assert sorted(result["index"] for result in answer) == [0, 1, 2, 3]
    assert all(isinstance(result["score"], float | int) for result in answer), answer


@case("4.3")
def rerank_of_a_too_long_pair_is_refused_as_an_embedding_is(target: Target) -> None:
    """Hold a pair to the physical batch, or to the context where the model can split (4.2)."""
    with target.fresh(target.rerank_model):
        response = target.rank(QUERY, [words(600)])
        if response.status_code != 200:
            assert_engine_error(response, 500, TOO_LARGE, "server_error")
            return

        target.configure(target.rerank_model, mode="reranking", context_size=512)
        response = target.rank(QUERY, [words(600)])
        assert_engine_error(response, 400, EXCEEDS, "exceed_context_size_error")


@case("4.3")
def model_that_is_no_reranker_answers_all_the_same(target: Target) -> None:
    body = {"model": target.chat_model, "query": QUERY, "documents": list(DOCUMENTS)}
    answer = as_object(target.post("/engines/rerank", body))

    assert len(answer["results"]) == len(DOCUMENTS), answer


@case("1.3", "docker")
def score_is_unknown_to_the_engine(target: Target) -> None:
    body = {"model": target.rerank_model, "query": QUERY, "documents": list(DOCUMENTS)}
    for path in ("/score", "/engines/score", "/engines/llama.cpp/score"):
        error = assert_engine_error(target.post(path, body), 404, "File Not Found")
        assert error["type"] == "not_found_error", error


def ranked(target: Target, *, documents: tuple[str, ...] = DOCUMENTS, **fields: Any) -> list[Json]:
    """Rerank and give the results."""
    return list(as_object(target.rank(QUERY, documents, **fields))["results"])
