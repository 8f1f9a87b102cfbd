"""A model server in this process with Docker Model Runner's HTTP contract.

For people and continuous integration without Docker: real engines and real weights, embeddings by
onnxruntime, chat and rerank by llama.cpp. It says what it is in ``/version`` and listens on
loopback unless told otherwise. The contract is written down in ``docs/model-runner.md``.
"""
