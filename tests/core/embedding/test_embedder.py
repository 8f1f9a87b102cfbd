from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merganser.embedding.embedder import Embedder, Prompts, pieces_needed, prompts_of, split_pieces
from merganser.embedding.pace import Pace
from merganser.embedding.text_queue import EmbedQueue
from merganser.errors import (
    InputTooLongError,
    ProtocolError,
    RequestRejectedError,
    RunnerUnavailableError,
)
from merganser.models.ref import ModelRef
from merganser.models.wire import ServedModel

if TYPE_CHECKING:
    from merganser.models.client import ModelRunner
    from tests.doubles.model_server import Double

EMBEDDER = "ai/all-minilm"
EMBEDDINGS = "/engines/v1/embeddings"


def served_as(ref: str = EMBEDDER, **more: Any) -> ServedModel:
    return ServedModel(ref, ref, "sha256:" + "1" * 64, **more)


def embedder_of(
    client: ModelRunner,
    ref: str = EMBEDDER,
    *,
    dimensions: int | None = None,
    batch_size: int | None = 50,
    concurrency: int | None = 3,
    served: ServedModel | None = None,
    **model: Any,
) -> Embedder:
    return Embedder(
        client,
        ModelRef(name=ref, provider="dmr", model=ref, **model),
        served or served_as(ref),
        dimensions=dimensions,
        batch_size=batch_size,
        concurrency=concurrency,
    )


def sizes(double: Double) -> list[int]:
    return [len(one.body["input"]) for one in double.asked(EMBEDDINGS)]


@pytest.fixture(autouse=True)
def local_models(double: Double) -> None:
    for ref in (EMBEDDER, "ai/embeddinggemma"):
        double.add_model(ref)


async def test_vectors_keep_the_order_of_the_texts_whatever_their_lengths(client: ModelRunner):
    texts = ["word " * (n * 37 % 101 + 1) + str(n) for n in range(120)]

    together = await embedder_of(client, batch_size=7).embed_documents(texts)
    alone = [(await client.embed(EMBEDDER, [text])).vectors[0] for text in texts]

    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)


async def test_requests_hold_texts_of_like_length_up_to_the_batch_size(
    client: ModelRunner, double: Double
):
    texts = [f"text {n}" for n in range(25)]

    await embedder_of(client, batch_size=10).embed_documents(texts)

    assert sorted(sizes(double)) == [5, 10, 10]


async def test_a_slow_servers_request_stays_within_its_budget_of_tokens(
    client: ModelRunner, double: Double
):
    double.token_limit = 10_000
    double.delay = 0.26
    texts = ["word " * 2_000 for _ in range(7)]

    await embedder_of(client, concurrency=1).embed_documents(texts)

    # A guess of 4 characters a token comes first, then the server's count of 5.
    assert sizes(double) == [1, 2, 2, 2]


async def test_a_quick_server_gets_a_shard_in_one_request():
    pace = Pace()
    for _ in range(4):
        pace.answered(pace.round, pace.characters, 0.01, is_fed=False)
    asked: list[int] = []

    async def embed(texts: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        asked.append(len(texts))
        return np.ones((len(texts), 2), dtype=np.float32)

    queue = EmbedQueue(pace, embed, lambda _text: False)
    await queue.embed(["word " * 160] * 512, None)

    assert asked == [512]


async def test_calls_share_requests_and_the_first_is_served_first(
    client: ModelRunner, double: Double
):
    embedder = embedder_of(client, batch_size=8, concurrency=1)
    done: list[str] = []

    async def call(name: str, count: int) -> None:
        await embedder.embed_documents([f"{name} {n}" for n in range(count)])
        done.append(name)

    await asyncio.gather(call("first", 12), call("second", 12))

    assert done == ["first", "second"]
    assert sizes(double) == [8, 8, 8]


async def test_a_failed_call_leaves_the_others_alone(client: ModelRunner, double: Double):
    embedder = embedder_of(client, batch_size=4, concurrency=1)
    double.fail(EMBEDDINGS, 403, {"error": {"code": 403, "message": "no"}})

    results = await asyncio.gather(
        embedder.embed_documents([f"first {n}" for n in range(8)]),
        embedder.embed_documents([f"second {n}" for n in range(8)]),
        return_exceptions=True,
    )

    assert isinstance(results[0], RequestRejectedError)
    assert not isinstance(results[1], BaseException)
    assert results[1].shape == (8, 16)


async def test_a_cancelled_call_sends_no_more(client: ModelRunner, double: Double):
    double.delay = 0.05
    embedder = embedder_of(client, batch_size=1, concurrency=1)
    call = asyncio.ensure_future(embedder.embed_documents([f"text {n}" for n in range(50)]))
    await asyncio.sleep(0.12)

    call.cancel()
    await asyncio.wait([call])

    asked = len(double.asked(EMBEDDINGS))
    await asyncio.sleep(0.15)
    assert len(double.asked(EMBEDDINGS)) == asked <= 4


async def test_progress_counts_every_text_once(client: ModelRunner):
    done: list[int] = []

    await embedder_of(client, batch_size=4).embed_documents(
        ["a"] * 10, on_vectors=lambda some, _: done.append(len(some))
    )

    assert sum(done) == 10


async def test_no_texts_are_no_request(client: ModelRunner, double: Double):
    vectors = await embedder_of(client, dimensions=16).embed_documents([])

    assert vectors.shape == (0, 16)
    assert not double.asked(EMBEDDINGS)


async def test_a_text_that_is_too_long_is_found_split_and_averaged(
    client: ModelRunner, double: Double
):
    long = " ".join(f"w{n}" for n in range(1200))
    texts = [f"short {n}" for n in range(20)]
    texts.insert(11, long)
    embedder = embedder_of(client)

    vectors = await embedder.embed_documents(texts)

    pieces = split_pieces(long, 3)
    parts = (await client.embed(EMBEDDER, pieces)).vectors
    mean = (np.asarray([[len(p)] for p in pieces]) * parts).sum(axis=0)
    np.testing.assert_allclose(vectors[11], mean / np.linalg.norm(mean), atol=1e-5)
    assert len(vectors) == 21
    assert embedder.split_texts == 1


@pytest.mark.parametrize("place", [0, 100, 255])
async def test_one_text_of_a_request_that_is_too_long_costs_its_neighbours_one_more_request(
    client: ModelRunner, double: Double, place: int
):
    texts = [f"short {n}" for n in range(255)]
    long = "word " * 700
    texts.insert(place, long)

    embedder = embedder_of(client, batch_size=256, concurrency=1)
    await embedder.embed_documents(texts)

    # All together, the long one alone, its pieces, and the others together.
    assert sizes(double) == [256, 1, 2, 255]
    sent = Counter(text for one in double.asked(EMBEDDINGS) for text in one.body["input"])
    assert {sent[text] for text in texts} == {2}
    assert sum(sent.values()) == 2 * 256 + 2
    assert embedder.split_texts == 1


async def test_several_texts_of_a_request_that_are_too_long_are_each_embedded_apart(
    client: ModelRunner, double: Double
):
    texts = [f"short {n}" for n in range(252)]
    for number, place in enumerate((0, 60, 130, 255)):
        texts.insert(place, "word " * (700 + 10 * number))

    embedder = embedder_of(client, batch_size=256, concurrency=1)
    await embedder.embed_documents(texts)

    # Shorter ones than the longest are not known to be too long until the rest is refused.
    sent = Counter(text for one in double.asked(EMBEDDINGS) for text in one.body["input"])
    short = [text for text in texts if text.startswith("short")]
    assert max(sent[text] for text in short) <= 5
    assert embedder.split_texts == 4


async def test_a_vector_does_not_depend_on_what_was_embedded_before(client: ModelRunner):
    long = [" ".join(f"w{n + k}" for n in range(400 + 90 * k)) for k in range(6)]
    fresh, used = embedder_of(client), embedder_of(client, batch_size=2)
    await used.embed_documents([long[3]])

    forwards = await fresh.embed_documents(long)
    backwards = await used.embed_documents(long[::-1])

    np.testing.assert_allclose(forwards, backwards[::-1], atol=1e-6)


async def test_a_known_long_text_travels_alone_from_then_on(client: ModelRunner, double: Double):
    embedder = embedder_of(client, concurrency=1)
    await embedder.embed_documents(["word " * 700])
    double.seen.clear()

    await embedder.embed_documents(["word " * 800, "short", "text"])

    long = "word " * 800
    requests = [one.body["input"] for one in double.asked(EMBEDDINGS)]
    assert [[long]] == [request for request in requests if long in request]


async def test_a_text_of_few_words_shares_requests_however_many_characters_it_has(
    client: ModelRunner, double: Double
):
    embedder = embedder_of(client, concurrency=1)
    await embedder.embed_documents(["word " * 700])
    double.seen.clear()

    await embedder.embed_documents(["characters " * 400, "short", "text"])

    assert sizes(double) == [3]


async def test_a_limit_that_not_even_one_character_meets_is_an_error(
    client: ModelRunner, double: Double
):
    double.token_limit = 0

    with pytest.raises(InputTooLongError):
        await embedder_of(client).embed_documents(["abc"])


async def test_a_query_and_a_document_get_the_prefixes_of_their_model(
    client: ModelRunner, double: Double
):
    embedder = embedder_of(client, "ai/embeddinggemma")

    await embedder.embed_query("q")
    await embedder.embed_documents(["d"])

    assert [one.body["input"] for one in double.asked(EMBEDDINGS)] == [
        ["task: search result | query: q"],
        ["title: none | text: d"],
    ]


async def test_every_piece_of_a_long_text_carries_the_prefix(client: ModelRunner, double: Double):
    await embedder_of(client, "ai/embeddinggemma").embed_documents(["word " * 800])

    pieces: list[str] = double.asked(EMBEDDINGS)[-1].body["input"]
    assert len(pieces) == 2
    assert all(piece.startswith("title: none | text: ") for piece in pieces)


async def test_wrong_dimensions_name_both_and_the_fix(client: ModelRunner):
    with pytest.raises(ProtocolError, match=r"gives 16 .*expects 384.*vector_dimensions: 16"):
        await embedder_of(client, dimensions=384).embed_documents(["a"])
    with pytest.raises(ProtocolError, match=r"gives 16 .*expects 8"):
        await embedder_of(client, dimensions=8).embed_documents(["a"])


async def test_a_matryoshka_model_is_cut_and_normalised_again(client: ModelRunner):
    full = await embedder_of(client, "ai/embeddinggemma").embed_query("a")

    cut = await embedder_of(client, "ai/embeddinggemma", dimensions=8).embed_query("a")

    np.testing.assert_allclose(cut, full[:8] / np.linalg.norm(full[:8]), atol=1e-6)


async def test_dimensions_that_change_in_a_run_are_refused(client: ModelRunner, double: Double):
    embedder = embedder_of(client)
    await embedder.embed_documents(["a"])
    double.dimensions = 8

    with pytest.raises(ProtocolError, match="changed from 16 to 8"):
        await embedder.embed_documents(["b"])


async def test_a_vector_without_length_is_refused(client: ModelRunner, double: Double):
    double.fail(EMBEDDINGS, 200, {"data": [{"index": 0, "embedding": [0.0, 0.0]}]})

    with pytest.raises(ProtocolError, match="without length"):
        await embedder_of(client).embed_documents(["a"])


async def test_a_server_that_takes_few_texts_at_a_time_gets_no_more_than_it_takes(
    client: ModelRunner, double: Double
):
    double.most_inputs = 8
    texts = [f"text {n}" for n in range(100)]
    embedder = embedder_of(client, batch_size=None, concurrency=1)

    vectors = await embedder.embed_documents(texts)
    double.seen.clear()
    again = await embedder.embed_documents(texts)

    np.testing.assert_allclose(vectors, again, atol=1e-6)
    assert max(sizes(double)) <= 8


async def test_a_text_that_is_refused_alone_is_an_error(client: ModelRunner, double: Double):
    double.most_inputs = 0

    with pytest.raises(RequestRejectedError, match="maximum allowed batch size"):
        await embedder_of(client).embed_documents(["a", "b", "c"])


async def test_a_503_is_survived_and_one_that_lasts_is_transient(
    client: ModelRunner, double: Double
):
    double.fail(EMBEDDINGS, 503, "busy", times=2)
    await embedder_of(client).embed_documents(["a"])
    double.fail(EMBEDDINGS, 503, "busy", times=9)

    with pytest.raises(RunnerUnavailableError):
        await embedder_of(client).embed_documents(["a"])


async def test_an_error_stops_the_other_requests(client: ModelRunner, double: Double):
    double.fail(EMBEDDINGS, 400, {"error": {"code": 400, "message": "no"}})
    texts = [f"text {n}" for n in range(200)]

    with pytest.raises(Exception, match="no"):
        await embedder_of(client, batch_size=1).embed_documents(texts)

    # Four are in flight at the start, and one more may follow before the error is seen.
    await asyncio.sleep(0.1)
    assert len(double.asked(EMBEDDINGS)) <= 4 + 1


async def test_no_more_requests_are_in_flight_than_allowed(client: ModelRunner, double: Double):
    texts = [f"text {n}" for n in range(40)]
    double.delay = 0.01

    await embedder_of(client, batch_size=1, concurrency=3).embed_documents(texts)

    assert double.most_in_flight == 3


async def test_a_fingerprint_changes_with_whatever_changes_a_vector(client: ModelRunner):
    plain = embedder_of(client)
    others = [
        embedder_of(client, dimensions=8),
        embedder_of(client, served=ServedModel(EMBEDDER, EMBEDDER, "sha256:2")),
        embedder_of(client, served=served_as(alias_of="local/e5-small")),
        embedder_of(client, runtime_flags=("--pooling", "cls")),
        embedder_of(client, runtime_flags=("--pooling=mean",)),
        embedder_of(client, context_size=512),
        embedder_of(client, "ai/embeddinggemma"),
    ]

    prints = [one.fingerprint for one in (plain, *others)]

    assert len(set(prints)) == len(prints)
    assert all(len(one) == 64 for one in prints)


@pytest.mark.parametrize(
    "flags", [("--pooling=cls",), ("-pooling", "cls"), ("--threads=2", "--pooling cls")]
)
async def test_a_fingerprint_is_of_what_the_engine_is_told_in_any_spelling(
    client: ModelRunner, flags: tuple[str, ...]
):
    usual = embedder_of(client, runtime_flags=("--pooling", "cls"))

    assert embedder_of(client, runtime_flags=flags).fingerprint == usual.fingerprint


async def test_a_fingerprint_does_not_know_the_name_or_the_batching(client: ModelRunner):
    one = embedder_of(client, batch_size=1, runtime_flags=("--threads", "2"))
    other = embedder_of(client, served=served_as("docker.io/other/all-minilm:latest"))

    aliased = embedder_of(client, served=served_as("ai/other", alias_of="ai/all-minilm"))

    assert one.fingerprint == other.fingerprint == aliased.fingerprint


@pytest.mark.parametrize(
    ("served", "query", "document"),
    [
        (
            served_as("ai/embeddinggemma:latest"),
            "task: search result | query: ",
            "title: none | text: ",
        ),
        (
            served_as("my/own", architecture="gemma-embedding"),
            "task: search result | query: ",
            "title: none | text: ",
        ),
        (served_as("ai/nomic-embed-text-v1.5"), "search_query: ", "search_document: "),
        (served_as("my/own", name="Multilingual E5 Small"), "query: ", "passage: "),
        (
            served_as("hf.co/BAAI/bge-small-en-v1.5-gguf"),
            "Represent this sentence for searching relevant passages: ",
            "",
        ),
        (served_as("ai/bge-m3"), "", ""),
        (served_as("ai/something-new"), "", ""),
        # What answers counts, not what it is called.
        (served_as("ai/embeddinggemma", alias_of="local/all-MiniLM-L6-v2"), "", ""),
        (served_as("ai/all-minilm", alias_of="local/e5-small-v2"), "query: ", "passage: "),
    ],
)
def test_prefixes_follow_the_model_that_answers(served: ServedModel, query: str, document: str):
    prompts = prompts_of(served)

    assert (query, document) == (prompts.query, prompts.document)


def test_qwen3_instructs_the_query_alone():
    prompts = prompts_of(served_as("ai/qwen3-embedding:0.6B"))

    assert prompts.query.startswith("Instruct: ")
    assert prompts.query.endswith("\nQuery:")
    assert prompts == Prompts(prompts.query, "", matryoshka=True)


@given(st.text(max_size=300), st.integers(2, 9))
def test_pieces_lose_nothing_but_blanks_and_are_shorter_than_the_text(text: str, count: int):
    pieces = split_pieces(text, count)

    assert "".join(text.split()) == "".join("".join(pieces).split())
    assert len(text) < 2 or all(len(piece) < len(text) for piece in pieces)
    assert all(piece.strip() for piece in pieces)


@pytest.mark.parametrize(
    ("tokens", "limit", "pieces"), [(None, None, 2), (602, 512, 2), (1200, 512, 3), (512, 511, 2)]
)
def test_pieces_stay_a_tenth_below_the_limit(tokens: int | None, limit: int | None, pieces: int):
    error = InputTooLongError("x", tokens=tokens, limit=limit)

    assert pieces == pieces_needed(error)
