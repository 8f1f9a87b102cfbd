"""The compose file and the units name what exists, and hold no secret."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from merganser.cli import COMMANDS, group

FOLDER = Path(__file__).resolve().parents[3] / "deployments"
UNITS = sorted(FOLDER.glob("*.service"))

CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


@pytest.fixture
def compose() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def problems_of(compose: dict[str, Any]) -> list[str]:
    """Hold a compose file against the schema of the Compose Specification."""
    file = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema: dict[str, Any] = json.loads(file.read_text())
    validator: Any = import_module("jsonschema.validators").validator_for(schema)(schema)
    return [str(error.json_path) for error in validator.iter_errors(compose)]


def test_the_compose_file_fits_the_schema_of_compose(compose: dict[str, Any]) -> None:
    assert problems_of(compose) == []

    compose["services"]["worker"]["restrat"] = compose["services"]["worker"].pop("restart")
    assert problems_of(compose) == ["$.services.worker"]


def test_the_compose_file_refers_to_what_it_declares(compose: dict[str, Any]) -> None:
    assert compose.keys() == {"name", "services", "secrets", "volumes"}
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= compose["secrets"].keys()
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] in CONDITIONS
            if how["condition"] == "service_healthy":
                assert "healthcheck" in compose["services"][other]
        for volume in service.get("volumes", []):
            source, target = volume.split(":")
            assert source.startswith("/") or source in compose["volumes"]
            assert target.startswith("/")
        for file in service.get("env_file", []):
            assert (FOLDER / file).is_file()
    used = {secret for one in compose["services"].values() for secret in one.get("secrets", [])}
    assert used == compose["secrets"].keys()


def test_ports_are_bound_to_this_machine_and_secrets_are_files(compose: dict[str, Any]) -> None:
    ports = [port for one in compose["services"].values() for port in one.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
    assert not re.search(r"(?i)password: *\S", (FOLDER / "compose.yaml").read_text())


def test_shell_variables_are_left_for_the_container(compose: dict[str, Any]) -> None:
    scripts = [one["command"][-1] for one in compose["services"].values() if "command" in one]

    assert scripts
    assert [s for s in scripts if re.search(r"(?<!\$)\$(?!\$)", s)] == []


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_a_command_that_exists(path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - keys are case-sensitive
    unit.read(path)
    words = unit["Service"]["ExecStart"].split()

    assert words[0] == "/opt/merganser/bin/merganser"
    assert words[1] in COMMANDS
    shown = CliRunner().invoke(group, [words[1], "--help"]).output
    assert all(word in shown for word in words[2:] if word.startswith("--"))
    assert unit["Service"]["Restart"] == "always"
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not here")
    program = tmp_path / "merganser"  # systemd looks whether it can be run
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in UNITS:
        text = path.read_text().replace("/opt/merganser/bin/merganser", str(program))
        (tmp_path / path.name).write_text(text)

    found = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / path.name) for path in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.returncode, found.stderr) == (0, "")


def test_there_are_units() -> None:
    assert [path.name for path in UNITS] == [
        "merganser-serve@.service",
        "merganser-server.service",
        "merganser-worker.service",
    ]
