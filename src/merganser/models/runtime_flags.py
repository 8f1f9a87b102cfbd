"""Flags of the engine: how people write them, and how Docker Model Runner takes them.

The server takes every word that begins with a dash for a flag, holds it against a list, and hands
the words on to llama.cpp, which wants a flag and its value as two words. People write
``--ngl=33``, as docker-agent's own example does: the server refuses that name, and accepts
``--threads=8``, with which llama.cpp then ends. So flags are brought into the form that both
take. What the server refuses all the same is left out by ``configure.set_up``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# docker/model-runner, pkg/inference/runtime_flags_allowlist.go at 642c721: flags of llama.cpp that
# name no file. Other versions may know others, so what stands here is told, and the server decides.
_ALLOWED = """
    -t --threads -tb --threads-batch -C --cpu-mask -Cr --cpu-range --cpu-strict --prio --poll
    -Cb --cpu-mask-batch -Crb --cpu-range-batch --cpu-strict-batch --prio-batch --poll-batch -c
    --ctx-size -n --predict --n-predict --keep -b --batch-size -ub --ubatch-size --swa-full -fa
    --flash-attn --perf --no-perf --samplers -s --seed --temp --temperature --top-k --top-p
    --min-p --top-nsigma --xtc-probability --xtc-threshold --typical --repeat-last-n
    --repeat-penalty --presence-penalty --frequency-penalty --dry-multiplier --dry-base
    --dry-allowed-length --dry-penalty-last-n --mirostat --mirostat-lr --mirostat-ent
    --ignore-eos --dynatemp-range --dynatemp-exp -dev --device -ngl --gpu-layers --n-gpu-layers
    -sm --split-mode -ts --tensor-split -mg --main-gpu -fit --fit -fitt --fit-target -fitc
    --fit-ctx -kvo --kv-offload -nkvo --no-kv-offload --repack -nr --no-repack --no-host -ctk
    --cache-type-k -ctv --cache-type-v --mlock --mmap --no-mmap -dio --direct-io -ndio
    --no-direct-io -cram --cache-ram -kvu --kv-unified --context-shift --no-context-shift
    --rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx
    --yarn-ext-factor --yarn-attn-factor --yarn-beta-slow --yarn-beta-fast -np --parallel -cb
    --cont-batching -nocb --no-cont-batching --warmup --no-warmup -to --timeout --threads-http
    --cache-prompt --no-cache-prompt --cache-reuse --sleep-idle-seconds --mmproj-auto
    --no-mmproj --no-mmproj-auto --mmproj-offload --no-mmproj-offload --image-min-tokens
    --image-max-tokens --spm-infill --spec-draft-threads -td --threads-draft
    --spec-draft-threads-batch -tbd --threads-batch-draft --spec-draft-cpu-mask -Cd
    --cpu-mask-draft --spec-draft-cpu-range -Crd --cpu-range-draft --spec-draft-cpu-strict
    --cpu-strict-draft --spec-draft-prio --prio-draft --spec-draft-poll --poll-draft
    --spec-draft-cpu-mask-batch -Cbd --cpu-mask-batch-draft --spec-draft-cpu-strict-batch
    --cpu-strict-batch-draft --spec-draft-prio-batch --prio-batch-draft --spec-draft-poll-batch
    --poll-batch-draft --spec-draft-override-tensor -otd --override-tensor-draft
    --spec-draft-cpu-moe -cmoed --cpu-moe-draft --spec-draft-n-cpu-moe --spec-draft-ncmoe
    -ncmoed --n-cpu-moe-draft --spec-draft-n-max --draft-n-max --draft-max --spec-draft-n-min
    --draft-n-min --draft-min --spec-draft-p-split --draft-p-split --spec-draft-p-min
    --draft-p-min --spec-draft-backend-sampling --no-spec-draft-backend-sampling
    --spec-draft-device -devd --device-draft --spec-draft-ngl -ngld --gpu-layers-draft
    --n-gpu-layers-draft --spec-type --spec-ngram-mod-n-min --spec-ngram-mod-n-max
    --spec-ngram-mod-n-match --spec-ngram-simple-size-n --spec-ngram-simple-size-m
    --spec-ngram-simple-min-hits --spec-ngram-map-k-size-n --spec-ngram-map-k-size-m
    --spec-ngram-map-k-min-hits --spec-ngram-map-k4v-size-n --spec-ngram-map-k4v-size-m
    --spec-ngram-map-k4v-min-hits --spec-draft-type-k -ctkd --cache-type-k-draft
    --spec-draft-type-v -ctvd --cache-type-v-draft -cd --ctx-size-draft
    --lora-init-without-apply --control-vector-layer-range --grammar -j --json-schema -bs
    --backend-sampling --chat-template --chat-template-kwargs --jinja --no-jinja --pooling
    --reasoning-format --reasoning-budget --prefill-assistant --no-prefill-assistant
    --api-prefix --webui --no-webui --webui-config --api-key --metrics --no-metrics --props
    --slots --no-slots --embedding --embeddings --rerank --reranking -sps
    --slot-prompt-similarity -cmoe --cpu-moe -ncmoe --n-cpu-moe --check-tensors --op-offload
    --no-op-offload -v --verbose
"""
ALLOWED = frozenset(_ALLOWED.split())
"""The names that Docker Model Runner lets through to llama.cpp."""

# llama.cpp's common/arg.cpp at b10434: names with a handler that takes no value.
_NO_VALUE = """
    --backend-sampling --cache-prompt --check-tensors --cont-batching --context-shift --cpu-moe
    --cpu-moe-draft --direct-io --embedding --embeddings --ignore-eos --jinja --kv-offload
    --kv-unified --lora-init-without-apply --metrics --mlock --mmap --mmproj-auto --mmproj-offload
    --op-offload --perf --prefill-assistant --props --repack --rerank --reranking --slots
    --spec-draft-backend-sampling --spec-draft-cpu-moe --spm-infill --swa-full --verbose --warmup
    --webui -bs -cb -cmoe -cmoed -dio -kvo -kvu -ndio -nkvo -nocb -nr -v
"""
SWITCHES = {*_NO_VALUE.split(), *(name for name in ALLOWED if name.startswith("--no-"))}
"""Those that take no value."""
PAIRS = frozenset({"--control-vector-layer-range"})
"""Those that take two."""
# Other names that llama.cpp has for an allowed flag.
_ALIASES = {
    "--log-verbose": "--verbose",
    "--no-ui": "--no-webui",
    "--top-n-sigma": "--top-nsigma",
    "--typical-p": "--typical",
    "--ui": "--webui",
    "--ui-config": "--webui-config",
}
_ON = frozenset({"1", "on", "true", "yes"})
_OFF = frozenset({"0", "off", "false", "no"})
_NEGATIVE = re.compile(r"-\.?\d")
_NEXT_FLAG = re.compile(r"\s+(?=--?[A-Za-z])")
_NAME_AND_VALUE = re.compile(r"([^\s=]+)(?:\s*=\s*|\s+|$)(.*)", re.DOTALL)
_REASON = re.compile(
    r"(?:runtime flag|invalid flag|error while handling argument|invalid argument)[^;\n]*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFlag:
    """One flag with its value, if it has one.

    Attributes:
        words: As the server takes it, each an item of its list.
        written: The items of the config that it comes from.
        first: Which item of the config it begins with, from 0.
        problem: Why the server will refuse it, as far as is known; else empty.
    """

    words: tuple[str, ...]
    written: tuple[str, ...]
    first: int
    problem: str = ""

    @property
    def is_translated(self) -> bool:
        """Whether it goes to the server in other words than it was written in."""
        return self.words != self.written


@dataclass(slots=True)
class _Entry:
    """A flag that is being read; without a name it is a value that follows no flag."""

    first: int
    name: str
    written: list[str] = field(default_factory=list[str])
    values: list[str] = field(default_factory=list[str])

    def takes(self, value: str) -> bool:
        name = _known(self.name)
        if name in SWITCHES:
            return not self.values and value.lower() in _ON | _OFF
        return bool(self.name) and len(self.values) < (2 if name in PAIRS else 1)

    def finish(self) -> RuntimeFlag:
        words, problem = _translate(self.name, self.values)
        return RuntimeFlag(
            words=words, written=tuple(self.written), first=self.first, problem=problem
        )


def translate(items: Sequence[str]) -> tuple[RuntimeFlag, ...]:
    """Bring flags into the form that Docker Model Runner and llama.cpp take.

    Args:
        items: As the config has them: ``--threads=8``, ``--threads 8``, or two items.

    Returns:
        The flags in their order; translating their words again changes nothing.

    >>> [flag.words for flag in translate(["--ngl=33", "--threads 8", "--mlock"])]
    [('-ngl', '33'), ('--threads', '8'), ('--mlock',)]
    """
    entries: list[_Entry] = []
    for index, item in enumerate(items):
        for name, value in _parts(item):
            if name or not entries or not entries[-1].takes(value):
                entries.append(_Entry(index, name))
            entry = entries[-1]
            if value:
                entry.values.append(value)
            if not entry.written or entry.written[-1] is not item:
                entry.written.append(item)
    return tuple(entry.finish() for entry in entries)


def words_of(items: Sequence[str]) -> tuple[str, ...]:
    """Return the words that the server is sent for the flags of a config."""
    return tuple(word for flag in translate(items) for word in flag.words)


def find_refused(flags: Sequence[RuntimeFlag], said: str) -> tuple[RuntimeFlag, ...]:
    """Find the flags that an error of the server, or of the engine at its start, is about.

    Args:
        flags: What was sent.
        said: The error's text.

    Returns:
        Those whose name it names, else those that have the word it names; often none.
    """
    named = tuple(flag for flag in flags if _names(said, flag.words[0]))
    return named or tuple(flag for flag in flags if any(_names(said, w) for w in flag.words))


def reason_in(said: str) -> str:
    """Return the part of an error that says why a flag is refused."""
    found = _REASON.search(said)
    return found[0].strip() if found else said


def _names(said: str, word: str) -> bool:
    quoted = json.dumps(word, ensure_ascii=False)
    known = (
        f'runtime flag "{word}" is not allowed',
        f"invalid runtime flag {quoted}",
        f"invalid flag {quoted}",
        f'error while handling argument "{word}"',
    )
    invalid = rf"invalid argument: {re.escape(word)}(?=[\s;]|$)"
    return any(text in said for text in known) or re.search(invalid, said) is not None


def _parts(item: str) -> Iterator[tuple[str, str]]:
    """Yield names with their values; a value alone has an empty name."""
    text = item.strip()
    if not text.startswith("-") or _NEGATIVE.match(text):
        yield "", text
        return
    for part in _NEXT_FLAG.split(text):
        found = _NAME_AND_VALUE.fullmatch(part)
        name, value = (found[1], found[2].strip()) if found else (part, "")
        if value.startswith("-") and not _NEGATIVE.match(value):
            yield part, ""  # as two words the value would be a flag
        else:
            yield name, value


def _known(name: str) -> str | None:
    """Return the allowed name that a name means, or None."""
    bare = name.lstrip("-").replace("_", "-")
    for one in (name, f"--{bare}", f"-{bare}"):
        if (allowed := _ALIASES.get(one, one)) in ALLOWED:
            return allowed
    return None


def _translate(name: str, values: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the words of a flag, and why the server refuses them, or ""."""
    known = _known(name)
    if not name:
        return tuple(values), "follows no flag that takes a value"
    if known is None:
        close = get_close_matches(name, ALLOWED, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return (name, *values), f"is not among the flags that the server allows{hint}"
    if known in SWITCHES and values:
        return _switch(known, values[0])
    words = (known, *values)
    if any("/" in word or "\\" in word for word in words):
        return words, "holds a path, which the server allows in no flag"
    if any(value.startswith("-") for value in values):
        return words, "has a negative value, which the server takes for a flag"
    return words, ""


def _switch(name: str, value: str) -> tuple[tuple[str, ...], str]:
    if value.lower() in _ON:
        return (name,), ""
    opposite = f"--no-{name.lstrip('-')}"
    if value.lower() in _OFF and opposite in ALLOWED:
        return (opposite,), ""
    return (name, value), "is a switch and takes no value"
