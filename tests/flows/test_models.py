"""The stages that get models ready: what is pulled by which policy, and in which order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow

from merganser.errors import ModelNotFoundError, PullError
from merganser.flows.models import ModelPolicy, ModelStages
from merganser.models.ref import ModelRef, ModelUse
from tests.doubles.model_server import Double, Host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.models.ref import PullPolicy, Role
    from merganser.tasks.models import ReadyModel

pytestmark = pytest.mark.usefixtures("prefect_server")

SUCCESS = json.dumps({"type": "success", "message": "Model pulled successfully"})
CREATE, CONFIGURE = "/models/create", "/engines/_configure"
EMBEDDER = "ai/embeddinggemma"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.stop()


@pytest.fixture
def double(host: Host) -> Double:
    host.double = Double(url=host.url, pull_lines=[SUCCESS])
    return host.double


def use_of(model: str = EMBEDDER, role: Role = "embedding", **more: Any) -> ModelUse:
    ref = ModelRef(name=model, provider="dmr", model=model, **more)
    return ModelUse(model=ref, role=role, used_by="rag.codebase.strategies[0]")


def make_ready(double: Double, policy: PullPolicy, use: ModelUse | None = None) -> ReadyModel:
    """Run the three stages of one model in a flow."""
    wanted = use or use_of()
    found: list[ReadyModel] = []

    @flow(name="models", persist_result=False)
    def models() -> None:
        stages = ModelStages(ModelPolicy(base_url=double.url, pull=policy))
        stages.check(wanted)
        stages.pull(wanted)
        stages.configure(wanted)
        ready = stages.ready(wanted.role, wanted.model)
        assert ready is not None
        found.append(ready.result())

    models()
    return found[0]


def agree(_question: str, *, default: bool) -> bool:
    return default


def decline(_question: str, *, default: bool) -> bool:
    return not default


@pytest.mark.parametrize(
    ("policy", "local", "pulls"),
    [
        ("missing", True, 0),
        ("missing", False, 1),
        ("always", True, 1),
        ("never", True, 0),
        ("ask", True, 0),
        ("ask", False, 1),
    ],
)
def test_the_policy_decides_what_is_pulled(
    double: Double, monkeypatch: pytest.MonkeyPatch, policy: PullPolicy, *, local: bool, pulls: int
):
    monkeypatch.setattr("merganser.flows.models.confirm", agree)
    if local:
        double.add_model(EMBEDDER)

    ready = make_ready(double, policy)

    assert ready.served.canonical == "ai/embeddinggemma:latest"
    assert len(double.asked(CREATE)) == pulls


def test_never_pulls_nothing_and_names_the_pull_command_and_who_wants_the_model(double: Double):
    with pytest.raises(ModelNotFoundError) as caught:
        make_ready(double, "never")

    assert "docker model pull ai/embeddinggemma" in str(caught.value)
    assert "rag.codebase.strategies[0]" in str(caught.value)
    assert not double.asked(CREATE)


def test_a_declined_pull_is_a_missing_model(double: Double, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("merganser.flows.models.confirm", decline)

    with pytest.raises(ModelNotFoundError, match="declined"):
        make_ready(double, "ask")

    assert not double.asked(CREATE)


def test_without_anyone_to_ask_the_model_is_pulled(double: Double):
    make_ready(double, "ask")

    assert len(double.asked(CREATE)) == 1


def test_a_success_without_the_model_is_a_failure(double: Double):
    double.pull_adds = False

    with pytest.raises(PullError, match="reported success"):
        make_ready(double, "missing")


@pytest.mark.parametrize("policy", ["missing", "always"])
def test_another_server_pulls_and_configures_nothing(double: Double, policy: PullPolicy):
    double.managed = False
    double.prefix = ""
    double.tags["nomic-embed"] = ""

    ready = make_ready(double, policy, use_of("nomic-embed", context_size=2048))
    with pytest.raises(ModelNotFoundError, match="pulls nothing"):
        make_ready(double, policy, use_of("another"))

    assert "manages no models" in ready.notes[0]
    assert not double.asked(CREATE)
    assert not double.asked(CONFIGURE)


def test_a_model_is_pulled_then_configured_then_loaded(double: Double):
    make_ready(double, "missing")

    asked = [(one.method, one.path) for one in double.seen]
    order = [asked.index(("POST", path)) for path in (CREATE, CONFIGURE, "/engines/v1/embeddings")]
    assert order == sorted(order)


def test_the_completion_engine_that_configuring_starts_is_cleared_away(double: Double):
    double.add_model(EMBEDDER)

    make_ready(double, "missing")

    loads = double.asked("/engines/v1/embeddings")
    assert [one.headers["x-preload-only"] for one in loads] == ["true", "true"]
    assert [one.method for one in double.asked("/engines/unload")] == ["POST"]
    assert double.engines == []


def test_a_refused_flag_is_noted_and_what_follows_has_the_model_without_it(double: Double):
    double.add_model("ai/flagged")
    double.refused_flags.add("--made-up")

    ready = make_ready(
        double, "missing", use_of("ai/flagged", runtime_flags=("--made-up", "--threads=2"))
    )

    assert ready.use.model.runtime_flags == ("--threads=2",)
    assert ready.left_out == ready.notes
    assert "the flag '--made-up' of 'ai/flagged:latest' is refused" in ready.notes[0]
