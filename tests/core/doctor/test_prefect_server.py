"""What the doctor says of the Prefect server, asked for real."""

from __future__ import annotations

from importlib.metadata import version

from merganser.doctor.deployments import diagnose_history
from merganser.services.prefect_server import server_login


def test_a_server_that_answers_tells_its_version(history_url: str):
    api = history_url.removesuffix("/").removesuffix("/api") + "/api"

    check = diagnose_history({"PREFECT_API_URL": api})

    assert check.level == "ok"
    assert check.detail.endswith(f"(PREFECT_API_URL), version {version('prefect')}")


def test_an_address_that_is_no_api_is_a_problem(history_url: str):
    root = history_url.removesuffix("/").removesuffix("/api")

    check = diagnose_history(
        {"PREFECT_API_URL": f"{root}/api/nowhere", "PREFECT_API_AUTH_STRING": server_login()}
    )

    assert check.level == "problem"
    assert "/api" in check.fix


def test_a_server_that_is_away_is_a_problem_and_its_password_is_not_shown():
    check = diagnose_history({"PREFECT_API_URL": "http://me:planted-secret@127.0.0.1:1/api"})

    assert check.level == "problem"
    assert "PREFECT_API_URL" in check.fix
    assert "planted-secret" not in repr(check)
