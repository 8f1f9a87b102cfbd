"""Measure the search for secrets: ``python benchmarks/bench_secrets.py [TREE...]``.

CPU seconds of this one process, the least of ``--rounds``: cutting the texts into chunks, and
finding the secrets in the same texts. By default the trees are the installed Prefect package, which
is code, and the documentation of this project, which is prose.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

from merganser.chunking import ChunkingOptions, chunk_document
from merganser.documents.reading import read_document
from merganser.documents.scanning import scan_documents
from merganser.documents.secrets import find_secrets
from merganser.errors import SkipDocument


def main() -> None:
    """Print the figures of each tree."""
    parser = argparse.ArgumentParser(description=__doc__)
    spec = importlib.util.find_spec("prefect")
    code = Path(spec.origin).parent if spec and spec.origin else Path()
    default = [code, Path(__file__).parents[1] / "docs"]
    parser.add_argument("trees", nargs="*", type=Path, default=default)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for tree in arguments.trees:
        _measure(tree, arguments.rounds)


def _measure(tree: Path, rounds: int) -> None:
    options = ChunkingOptions(size=1000, code_aware=True)
    texts = _read(tree)
    cutting: list[float] = []
    finding: list[float] = []
    found = 0
    for _ in range(rounds):
        start = time.process_time()
        for language, text in texts:
            chunk_document(text, language=language, options=options)
        middle = time.process_time()
        found = sum(bool(find_secrets(text)) for _, text in texts)
        cutting.append(middle - start)
        finding.append(time.process_time() - middle)
    size = sum(len(text) for _, text in texts) / 1e6
    cut, find = (min(seconds) / size * 1000 for seconds in (cutting, finding))
    print(
        f"{tree}: {len(texts):,} files, {size:.1f} million characters, {found} with secrets; "
        f"ms a million: chunking {cut:.1f}, secrets {find:.1f}, a share of {find / cut:.2f}"
    )


def _read(tree: Path) -> list[tuple[str | None, str]]:
    texts: list[tuple[str | None, str]] = []
    for document in scan_documents(["."], base=tree, secrets="keep").documents:
        try:
            texts.append((document.language, read_document(document, secrets="keep").text))
        except SkipDocument:
            continue
    return texts


if __name__ == "__main__":
    main()
