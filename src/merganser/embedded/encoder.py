"""Sentence encoding on the CPU: an ONNX session, and workers that share it fairly.

Batches are made of texts of similar length up to ``TOKEN_BUDGET`` tokens, padding included: larger
ones fall out of the processor's cache (batches of 64 texts were 35 to 50 % slower than single
ones), smaller ones cost calls. One thread a batch and one worker a core beats one batch on all
cores by 20 %. Waiting never spins, so two engines on one machine do not fight.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from merganser.embedded.libraries import load_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Vectors = np.ndarray[Any, np.dtype[np.float32]]

TOKEN_BUDGET = 512
"""Tokens in one batch, padding included; measured best for this size of model (116 chunks/s)."""

MAX_BATCH = 64
"""Texts in one batch; bounds the padding loss on very short texts."""


class OnnxEncoder:
    """One loaded model: text to tokens, tokens to vectors.

    Accepts our own converted graphs and plain exports of sentence encoders: int32 or int64 inputs,
    with or without token types, a pooled output or one vector a token (then averaged and
    normalised here).

    Args:
        model: The ONNX file.
        tokenizer: Its ``tokenizer.json``.
        max_tokens: The longest input the model has positions for.
    """

    def __init__(self, model: Path, tokenizer: Path, *, max_tokens: int) -> None:
        runtime = load_library("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors; the fused graph draws harmless warnings
        self._session = runtime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {
            entry.name: np.dtype(np.int64 if "int64" in entry.type else np.int32)
            for entry in self._session.get_inputs()
        }
        output = self._session.get_outputs()[0]
        self.dimensions = int(output.shape[-1])
        self.max_tokens = max_tokens
        # Our workers are the parallelism; the tokeniser's own pool would fight them.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._tokenizer = load_library("tokenizers").Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()  # a cut text is a wrong vector: too long is an error
        self._tokenizer.no_padding()
        self._vocabulary_size = int(self._tokenizer.get_vocab_size())

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Give the token ids of each text, the special tokens included, never cut."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def knows(self, ids: Sequence[int]) -> bool:
        """Tell whether every id is in the vocabulary."""
        return not ids or (min(ids) >= 0 and max(ids) < self._vocabulary_size)

    def encode(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        """Encode one batch.

        Args:
            tokens: Token ids of each text, at least one text, each at most ``max_tokens``.

        Returns:
            (n_texts, dim) float32, rows L2-normalised.
        """
        longest = max(1, *(len(ids) for ids in tokens))
        ids = np.zeros((len(tokens), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feed = {name: arrays[name].astype(kind) for name, kind in self._inputs.items()}
        result: Vectors = self._session.run(None, feed)[0]
        return result if result.ndim == 2 else _mean_pool(result, mask)


def _mean_pool(states: Vectors, mask: np.ndarray[Any, Any]) -> Vectors:
    weights = mask[:, :, None].astype(np.float32)
    mean = (states * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return (mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)).astype(
        np.float32
    )


def plan_batches(
    lengths: Sequence[int], *, budget: int = TOKEN_BUDGET, most: int = MAX_BATCH
) -> Iterator[list[int]]:
    """Group texts of similar length so that each padded batch stays within the budget.

    Args:
        lengths: Tokens of each text.
        budget: Tokens a batch may hold, padding included; one longer text goes alone.
        most: Texts a batch may hold.

    Yields:
        Indices into ``lengths``; each index once.
    """
    batch = list[int]()
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (lengths[index] * (len(batch) + 1) > budget or len(batch) >= most):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class _Job:
    """One request's texts, cut into batches, and its vectors as they come."""

    def __init__(self, tokens: Sequence[Sequence[int]], dimensions: int) -> None:
        self.tokens = tokens
        self.vectors: Vectors = np.zeros((len(tokens), dimensions), np.float32)
        self.waiting = deque(plan_batches([len(ids) for ids in tokens]))
        self.missing = len(self.waiting)
        self.done: Future[Vectors] = Future()

    def fail(self, error: Exception) -> None:
        with suppress(InvalidStateError):  # cancelled, or failed by another batch
            self.done.set_exception(error)


class EncoderPool:
    """Worker threads that encode the batches of all requests in turn.

    Each worker takes one batch of the request that has waited longest since its last batch, so a
    single query waits for at most one batch of a large request, never for all of it.

    Args:
        encode: Encodes one batch of token ids.
        dimensions: Length of a vector.
        workers: Threads; None means one a core.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[Sequence[int]]], Vectors],
        dimensions: int,
        *,
        workers: int | None = None,
    ) -> None:
        self._encode = encode
        self._dimensions = dimensions
        self._jobs = deque[_Job]()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"merganser-encoder-{number}", daemon=True)
            for number in range(workers or os.cpu_count() or 1)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, tokens: Sequence[Sequence[int]]) -> Future[Vectors]:
        """Queue texts; the future gives (n_texts, dim) float32 in the given order.

        Cancelling the future drops the batches that have not begun.
        """
        job = _Job(tokens, self._dimensions)
        if not job.missing:
            job.done.set_result(job.vectors)
            return job.done
        with self._changed:
            if self._closed:
                raise RuntimeError("the encoder is closed")
            self._jobs.append(job)
            self._changed.notify_all()
        return job.done

    def close(self) -> None:
        """Finish what has begun, fail what waits, and end the workers."""
        with self._changed:
            self._closed = True
            waiting, self._jobs = self._jobs, deque[_Job]()
            self._changed.notify_all()
        for job in waiting:
            job.waiting.clear()
            job.fail(RuntimeError("the encoder was closed"))
        for thread in self._threads:
            thread.join()

    def _take(self) -> tuple[_Job, list[int]] | None:
        """Wait for a batch; None when closed."""
        with self._changed:
            while True:
                while self._jobs and self._jobs[0].done.cancelled():
                    self._jobs.popleft()
                if self._jobs:
                    job = self._jobs.popleft()
                    batch = job.waiting.popleft()
                    if job.waiting:
                        self._jobs.append(job)
                    return job, batch
                if self._closed:
                    return None
                self._changed.wait()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            job, batch = taken
            try:
                job.vectors[batch] = self._encode([job.tokens[index] for index in batch])
            except Exception as error:  # noqa: BLE001 - handed to the one who waits for it
                with self._changed:
                    if job in self._jobs:
                        self._jobs.remove(job)
                job.fail(error)
                continue
            with self._changed:
                job.missing -= 1
                complete = not job.missing
            if complete:
                with suppress(InvalidStateError):  # cancelled while its last batch ran
                    job.done.set_result(job.vectors)
