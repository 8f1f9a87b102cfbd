"""A small shop, indexed by words alone: the real engine, and no model to wait for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from merganser.config.load import Config, load_config
from merganser.config.rag_definition import resolve_rag
from merganser.indexing.run import index_once, index_once_async

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
rag:
  code:
    docs: [./src]
    strategies:
      - {type: bm25, limit: 10, chunking: {size: 120, overlap: 30}}
"""

SOURCES = {
    "src/discount.py": "def best_discount(coupons):\n    return max(coupons)\n",
    "src/mail.py": "def send_invoice(customer):\n    customer.deliver('invoice')\n",
    "src/refunds.md": (
        "# Refunds\n\n" + "Nothing is said here.\n" * 8 + "\nMoney goes back\n  within 14 days.\n"
    ),
}


@dataclass
class Shop:
    """A folder with a config, documents and query sets."""

    folder: Path
    config: Config

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def queries(self, *lines: dict[str, Any], name: str = "evals.jsonl") -> Path:
        return self.write(name, "".join(f"{json.dumps(line)}\n" for line in lines))

    async def index(self) -> None:
        (index,) = resolve_rag(self.config, "code").indexes
        await index_once_async(index, None)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A shop that was indexed once."""
    (tmp_path / "shop.yaml").write_text(CONFIG)
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    made = Shop(tmp_path, load_config(tmp_path / "shop.yaml"))
    (index,) = resolve_rag(made.config, "code").indexes
    index_once(index, None)
    return made
