"""A model server in this process with Docker Model Runner's HTTP contract.

For people and continuous integration without Docker: real engines and real weights, embeddings by
onnxruntime, chat and rerank by llama.cpp. It says what it is in ``/version`` and listens on
loopback unless told otherwise.
"""

from merganser.embedded.faults import Fault, Faults, ScriptedAnswer, ScriptedCall
from merganser.embedded.server import EmbeddedRunner, RunnerOptions, RunnerStartError, serve

__all__ = [
    "EmbeddedRunner",
    "Fault",
    "Faults",
    "RunnerOptions",
    "RunnerStartError",
    "ScriptedAnswer",
    "ScriptedCall",
    "serve",
]
