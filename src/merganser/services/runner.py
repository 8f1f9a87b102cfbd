"""The embedded runner as a background service that commands share."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import httpx

from merganser.errors import ModelRunnerError
from merganser.humanize import install_extra
from merganser.services.supervisor import (
    ensure_service,
    process_alive,
    proves_itself,
    recorded_service,
    running_service,
)

if TYPE_CHECKING:
    from merganser.services.supervisor import Service

SERVICE = "runner"

PREFERRED_PORT = 12436
"""Beside Docker Model Runner's 12434 and Docker Cloud's 12435, so that both may run."""

NEEDED = ("onnxruntime", "onnx", "tokenizers", "safetensors", "uvicorn", "starlette")


def ensure_runner() -> Service:
    """Start or reuse the embedded runner of this machine.

    Raises:
        ModelRunnerError: The extra is not installed; the message says both ways out.
        ServiceError: It did not come up; the message shows the end of its log.
    """
    require_extra()
    return ensure_service(
        SERVICE,
        command=lambda port: [
            *(sys.executable, "-P", "-m", "merganser"),
            *("runner", "--port", str(port)),
        ],
        healthy=runner_healthy,
        preferred_port=PREFERRED_PORT,
    )


def revive_runner() -> str | None:
    """Start the runner again if it died; one that was stopped on purpose is left alone.

    Returns:
        Where it is; None while it is stopped.

    Raises:
        ServiceError: It did not come up; the message shows the end of its log.
    """
    last = recorded_service(SERVICE)
    if last is None or process_alive(last.pid):
        return last.url if last else None
    return ensure_runner().url


def running_runner() -> Service | None:
    """Return the embedded runner that commands share, or None."""
    return running_service(SERVICE, runner_healthy)


def require_extra() -> None:
    """Check that the engines are installed.

    Raises:
        ModelRunnerError: They are not; the message says both ways out.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ModelRunnerError(
            f"the embedded runner needs {', '.join(missing)}: {install_extra('embedded')} (with "
            "chat: embedded-chat), or start Docker Model Runner and leave out --embedded "
            "(`docker model status` shows it)"
        )


def runner_healthy(service: Service) -> bool:
    """Return whether our embedded runner answers at its address within a few seconds."""
    if not proves_itself(service):
        return False
    try:
        answer = httpx.get(f"{service.url}/version", timeout=2.0, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and "merganser-embedded" in answer.text
