"""Deployments as data: what is wanted, and what would change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click import UsageError

from merganser.cli.deploy import plan_changes
from merganser.config.load import load_config
from merganser.errors import PlanError
from merganser.planning.deployments import (
    Change,
    Deployed,
    DeploymentDefinition,
    DeploymentSpec,
    compare,
    define_deployments,
)

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
agents: {root: {model: dmr/ai/qwen3}}
metadata: {tags: [shop]}
rag: {code: {docs: [./src], strategies: [{type: bm25}]}}
flows:
  often: {type: index, schedule: {interval: 15m}}
  nightly: {type: index, schedule: {cron: "0 3 * * *", timezone: Europe/Berlin}}
  soon: {type: index, schedule: {watch: true}}
  faq: {type: batch, input: q.jsonl, output: a.jsonl, after: [often, nightly]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(CONFIG)
    return path


def wanted(file: Path, name: str | None = None) -> tuple[DeploymentDefinition, ...]:
    return define_deployments(load_config(file), name=name)


def as_deployed(definitions: tuple[DeploymentDefinition, ...]) -> list[Deployed]:
    return [
        Deployed(id=str(number), full_name=one.full_name, spec=one.spec)
        for number, one in enumerate(definitions)
    ]


def actions(changes: tuple[Change, ...]) -> dict[str, str]:
    return {change.full_name: change.action for change in changes}


def test_credentials_are_not_put_into_a_deployment(file: Path) -> None:
    with pytest.raises(UsageError, match="without user and password; set MODEL_RUNNER_HOST"):
        plan_changes(str(file), base_url="http://me:hunter2@models", model_map={})


def test_every_flow_is_one_deployment(file: Path) -> None:
    found = {one.full_name: one for one in wanted(file)}

    assert list(found) == [
        "shop.often/shop",
        "shop.nightly/shop",
        "shop.soon/shop",
        "shop.faq/shop",
        "shop.ask-root/shop",
    ]
    assert found["shop.faq/shop"].upstream == ("shop.often/shop", "shop.nightly/shop")
    assert [one.watches for one in found.values()] == [False, False, True, False, False]
    assert found["shop.often/shop"].spec.tags == ("merganser", "config:shop", "shop")


def test_only_asking_may_happen_at_the_same_time(file: Path) -> None:
    assert [one.exclusive for one in wanted(file)] == [True, True, True, True, False]


def test_a_second_deploy_changes_nothing(file: Path) -> None:
    there = as_deployed(wanted(file))

    assert set(actions(compare(wanted(file), there)).values()) == {"unchanged"}


def test_a_comment_is_no_change_and_a_schedule_is_one(file: Path) -> None:
    there = as_deployed(wanted(file))
    file.write_text("# nothing\n" + CONFIG)
    assert set(actions(compare(wanted(file), there)).values()) == {"unchanged"}

    file.write_text(CONFIG.replace("15m", "20m"))
    changes = {change.full_name: change for change in compare(wanted(file), there)}

    assert changes["shop.often/shop"].action == "update"
    assert "schedule: every 15m -> every 20m" in changes["shop.often/shop"].reasons


def test_a_removed_flow_retires_and_others_configs_are_left_alone(file: Path) -> None:
    there = as_deployed(wanted(file))
    other = Deployed(
        id="x",
        full_name="else.index/else",
        spec=replace(wanted(file)[0].spec, config="/elsewhere/else.yaml"),
    )
    foreign = Deployed(id="y", full_name="somebody/else", spec=None)
    file.write_text(CONFIG.replace("  soon: {type: index, schedule: {watch: true}}\n", ""))

    found = actions(compare(wanted(file), [*there, other, foreign]))

    assert {name for name, action in found.items() if action == "retire"} == {"shop.soon/shop"}
    assert not {"else.index/else", "somebody/else"} & found.keys()


def test_a_config_of_the_same_name_elsewhere_is_not_overwritten(file: Path, tmp_path: Path) -> None:
    there = as_deployed(wanted(file))
    twin = tmp_path / "twin" / "shop.yaml"
    twin.parent.mkdir()
    twin.write_text(CONFIG)

    with pytest.raises(PlanError, match=r"belongs to .*shop.yaml; rename .* --name NAME"):
        compare(wanted(twin), there)
    assert set(actions(compare(wanted(twin, name="twin"), there)).values()) == {"create"}


def test_a_config_that_moved_takes_its_deployments_along(file: Path, tmp_path: Path) -> None:
    there = as_deployed(wanted(file))
    moved = tmp_path / "new" / "shop.yaml"
    moved.parent.mkdir()
    file.rename(moved)

    assert set(actions(compare(wanted(moved), there)).values()) == {"update"}


def test_a_deployment_of_somebody_else_is_not_overwritten(file: Path) -> None:
    foreign = Deployed(id="x", full_name="shop.often/shop", spec=None)

    with pytest.raises(PlanError, match="was not made by this version of merganser"):
        compare(wanted(file), [foreign])


def test_a_lost_automation_is_a_reason_to_deploy_again(file: Path) -> None:
    there = [replace(one, whole=False) for one in as_deployed(wanted(file))]

    assert set(actions(compare(wanted(file), there)).values()) == {"update"}


def test_facts_survive_their_travel(file: Path) -> None:
    spec = define_deployments(load_config(file), parameters={"pull": "never"}, models={"a": "b"})[
        0
    ].spec

    assert DeploymentSpec.from_json(spec.to_json()) == spec
    assert DeploymentSpec.from_json("") is None
    assert DeploymentSpec.from_json('{"config": "/x"}') is None
