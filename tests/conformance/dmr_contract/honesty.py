"""Section 7.7: a server that stands in for Docker's says so."""

from __future__ import annotations

import re

from dmr_contract.target import Target, as_object, case, describe


@case("7.7", "embedded")
def version_names_the_stand_in(target: Target) -> None:
    version = as_object(target.get("/version"))["version"]

    name, slash, number = version.partition("/")
    assert slash, f"name/number is expected: {version!r}"
    assert name, version
    assert re.match(r"\d+\.\d+", number), f"the stand-in's own number: {version!r}"
    assert "docker" not in name.lower(), version
    assert not re.match(r"v?\d", version), f"{version!r} passes for a release of Docker's"


@case("7.7", "embedded")
def server_header_names_the_stand_in_on_every_answer(target: Target) -> None:
    name = as_object(target.get("/version"))["version"].partition("/")[0]
    for path in ("/", "/models", "/engines/ps", "/models/ai/no-such-model-here", "/v1/models"):
        response = target.get(path)

        servers = response.headers.get_list("server")
        assert len(servers) == 1, f"{servers}: {describe(response)}"
        assert name in servers[0], f"{servers}: {describe(response)}"


@case("7.8", "embedded")
def no_prompt_and_no_header_injects_a_fault(target: Target) -> None:
    for text in ("FAULT 500", "__fault__:500", '{"fault": "500"}'):
        response = target.post(
            "/engines/v1/embeddings",
            {"model": target.embedding_model, "input": text, "fault": "500"},
            headers={"X-Fault": "500"},
        )

        assert response.status_code == 200, describe(response)
