"""What the doctor says of deployments, from the runs of a real server."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from prefect.states import Cancelled, Completed, Pending, Scheduled

from merganser.config.load import Config, load_config
from merganser.config.rag_definition import resolve_rag
from merganser.deployment.apply import apply_changes, read_deployed
from merganser.deployment.runs import MISSED, read_scheduled_runs
from merganser.doctor.deployments import judge_deployments
from merganser.doctor.indexes import diagnose_index
from merganser.indexing.run import index_once
from merganser.planning.deployments import compare, define_deployments

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from merganser.doctor.servers import Check

pytestmark = pytest.mark.usefixtures("prefect_server")

CONFIG = """\
rag: {code: {docs: [./src], strategies: [{type: bm25}]}}
flows:
  nightly: {type: index, schedule: {cron: "0 3 1 1 *"}}
"""
POOL = "scheduled-runs"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.md").write_text("# Ducks\n")
    (tmp_path / "fired.yaml").write_text(CONFIG)
    return load_config(tmp_path / "fired.yaml")


def deploy(config: Config) -> UUID:
    ids = apply_changes(config, compare(define_deployments(config, pool=POOL), read_deployed()))
    return UUID(ids["fired.nightly/fired"])


def look(config: Config) -> Check:
    (check,) = judge_deployments(
        config,
        read_scheduled_runs(config.path),
        [diagnose_index(one) for one in resolve_rag(config, "code").indexes],
        models={},
    )
    return check


def test_scheduled_runs_that_were_skipped_and_missed_show_with_the_age_of_the_index(
    client: SyncPrefectClient, config: Config
) -> None:
    deployment = deploy(config)
    (index,) = resolve_rag(config, "code").indexes
    index_once(index, None)
    fresh = look(config)
    assert (fresh.level, fresh.fix) == ("ok", "")
    assert "never completed" in fresh.detail

    # The second is refused by the server itself: the first holds the only place.
    first = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(first.id, Pending())
    second = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(second.id, Pending())
    third = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(third.id, Cancelled(message=MISSED), force=True)

    skipped = look(config)
    assert skipped.level == "note"
    assert "under way for" in skipped.detail
    assert "1 scheduled runs skipped" in skipped.detail
    assert "1 scheduled runs missed" in skipped.detail
    assert re.search(r"code is \d+ seconds old", skipped.detail)
    assert f"merganser worker --pool {POOL}" in skipped.fix

    earlier = datetime.now(UTC) - timedelta(minutes=2)
    due: Any = Scheduled(scheduled_time=earlier)
    waits = client.create_flow_run_from_deployment(deployment, state=due)
    late = look(config)
    assert late.level == "problem"
    assert "1 scheduled run is due, and no worker is there" in late.detail
    assert late.fix.startswith(f"merganser serve {config.path}")
    client.delete_flow_run(waits.id)

    client.set_flow_run_state(first.id, Completed(), force=True)
    settled = look(config)
    assert settled.level == "ok"
    assert "completed" in settled.detail
    assert "skipped" not in settled.detail


def test_a_config_that_changed_since_is_a_problem(
    client: SyncPrefectClient, config: Config
) -> None:
    assert client is not None
    deploy(config)
    config.path.write_text(CONFIG.replace("0 3", "0 4"))

    check = look(load_config(config.path))

    assert check.level == "problem"
    assert check.fix == f"merganser deploy {config.path}"


def test_deployments_of_other_configs_are_not_looked_at(
    client: SyncPrefectClient, config: Config, tmp_path: Path
) -> None:
    assert client is not None
    deploy(config)

    assert read_scheduled_runs(tmp_path / "other.yaml") == ()
