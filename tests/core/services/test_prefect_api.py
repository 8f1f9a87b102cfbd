"""What names a Prefect server and is none, or none that works: one message that says what to do."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from merganser.services.prefect_api import look_at_api, require_api
from merganser.services.prefect_server import ensure_server, pruning_settings, require_database
from merganser.services.supervisor import ServiceError
from tests.doubles.wrong_servers import WRONG, wrong_server

if TYPE_CHECKING:
    from pathlib import Path

URL = "PREFECT_API_URL"
SAID = {
    "hanging": "does not answer within 6 s",
    "dripping": "does not answer within 6 s",
    "foreign": "is not the API of a Prefect server: it answers 404",
    "html": "is not the API of a Prefect server: it answers 200",
    "broken": "is out of order: it answers 500",
    "locked": "asks for a login",
    "not http": "does not speak HTTP",
}


@pytest.mark.timeout(30)  # waits have an end, those for an answer that drips too
@pytest.mark.parametrize("kind", WRONG)
def test_a_server_that_is_none_is_one_message_in_time(kind: str) -> None:
    with wrong_server(kind) as url, pytest.raises(ServiceError) as caught:
        require_api(url, URL)

    message = str(caught.value)
    assert SAID[kind] in message
    assert "PREFECT_API" in message
    assert "--ephemeral" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/api", "ftp://127.0.0.1/api", "127.0.0.1:4200/api", "http://[::/api"]
)
def test_an_address_where_nothing_is_names_the_setting(url: str) -> None:
    with pytest.raises(ServiceError, match=URL) as caught:
        require_api(url, URL)

    assert "\n" not in str(caught.value)


def test_a_wrong_login_is_told_from_a_missing_one() -> None:
    with wrong_server("locked") as url:
        without = look_at_api(url, URL, {})
        wrong = look_at_api(url, URL, {"PREFECT_API_AUTH_STRING": "me:planted-secret"})

    assert "Set PREFECT_API_AUTH_STRING" in without.fix
    assert "Correct PREFECT_API_AUTH_STRING" in wrong.fix
    assert "planted-secret" not in repr(wrong)


def test_a_damaged_history_is_told_before_a_server_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGANSER_HOME", str(tmp_path))
    database = tmp_path / "prefect" / "prefect.db"
    database.parent.mkdir()
    database.write_bytes(b"no database " * 1000)

    with pytest.raises(ServiceError, match=r"prefect\.db cannot be read .* Move it away"):
        ensure_server(port=0)

    assert not (tmp_path / "prefect.log").exists()


def test_a_sound_history_is_taken(tmp_path: Path) -> None:
    require_database(tmp_path / "nothing.db")
    sqlite3.connect(tmp_path / "empty.db").close()

    require_database(tmp_path / "empty.db")


def test_runs_are_forgotten_after_the_days_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    vacuum = "PREFECT_SERVER_SERVICES_DB_VACUUM_"
    assert pruning_settings() == {
        f"{vacuum}ENABLED": "events,flow_runs",
        f"{vacuum}RETENTION_PERIOD": str(90 * 86_400),
    }

    monkeypatch.setenv("MERGANSER_HISTORY_DAYS", "0")
    assert pruning_settings()[f"{vacuum}ENABLED"] == "events"

    monkeypatch.setenv("MERGANSER_HISTORY_DAYS", "7")
    monkeypatch.setenv(f"{vacuum}ENABLED", "events")
    assert pruning_settings() == {f"{vacuum}RETENTION_PERIOD": str(7 * 86_400)}

    monkeypatch.setenv("MERGANSER_HISTORY_DAYS", "a week")
    with pytest.raises(ServiceError, match="MERGANSER_HISTORY_DAYS is 'a week'"):
        pruning_settings()
