from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from merganser.runner.encoder import EncoderPool, Tokens

if TYPE_CHECKING:
    from collections.abc import Sequence


def _texts(ids: Sequence[Sequence[int]]) -> list[Tokens]:
    return [Tokens(one) for one in ids]


def _constant(tokens: Tokens) -> Any:
    return np.array([tokens.ids[0], len(tokens.ids)], np.float32)


def test_vectors_come_in_the_order_of_the_texts() -> None:
    pool = EncoderPool(_constant, 2, workers=3)
    texts = [[number] * (1 + number * 7 % 400) for number in range(60)]

    vectors = pool.submit(_texts(texts)).result(timeout=10)
    pool.close()

    assert [[n, len(t)] for n, t in enumerate(texts)] == vectors.tolist()


def test_a_query_overtakes_the_texts_of_a_large_request() -> None:
    order = list[int]()
    begun, go_on = threading.Event(), threading.Event()

    def encode(tokens: Tokens) -> Any:
        begun.set()
        go_on.wait(10)
        order.append(tokens.ids[0])
        return _constant(tokens)

    pool = EncoderPool(encode, 2, workers=1)
    large = pool.submit(_texts([[1] * 512 for _ in range(5)]))
    begun.wait(10)
    query = pool.submit(_texts([[2] * 8]))
    go_on.set()
    query.result(timeout=10)
    large.result(timeout=10)
    pool.close()

    assert order.index(2) <= 2, "it waits for the running text and at most one more"


def test_cancelled_requests_are_not_computed() -> None:
    begun, go_on = threading.Event(), threading.Event()
    computed = list[int]()

    def encode(tokens: Tokens) -> Any:
        begun.set()
        go_on.wait(10)
        computed.append(tokens.ids[0])
        return _constant(tokens)

    pool = EncoderPool(encode, 2, workers=1)
    first = pool.submit(_texts([[1]]))
    begun.wait(10)
    gone = pool.submit(_texts([[2] * 512, [2] * 512]))
    gone.cancel()
    last = pool.submit(_texts([[3]]))
    go_on.set()
    first.result(timeout=10)
    last.result(timeout=10)
    pool.close()

    assert computed == [1, 3]


def test_one_failing_text_fails_its_request_only() -> None:
    def encode(tokens: Tokens) -> Any:
        if tokens.ids[0] == 13:
            raise ValueError("unlucky")
        return _constant(tokens)

    pool = EncoderPool(encode, 2, workers=2)
    bad, good = pool.submit(_texts([[13] * 300, [1] * 500])), pool.submit(_texts([[7]]))

    with pytest.raises(ValueError, match="unlucky"):
        bad.result(timeout=10)
    assert good.result(timeout=10).tolist() == [[7, 1]]
    pool.close()


def test_closing_fails_what_still_waits() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def encode(tokens: Tokens) -> Any:
        begun.set()
        go_on.wait(10)
        return _constant(tokens)

    pool = EncoderPool(encode, 2, workers=1)
    pool.submit(_texts([[1]]))
    begun.wait(10)
    waiting = pool.submit(_texts([[2]]))
    threading.Timer(0.05, go_on.set).start()
    pool.close()

    with pytest.raises(RuntimeError, match="closed"):
        waiting.result(timeout=10)


def test_no_text_needs_no_work() -> None:
    pool = EncoderPool(_constant, 2, workers=1)

    assert pool.submit([]).result(timeout=1).shape == (0, 2)
    pool.close()
