"""The local Prefect server's process: Prefect's own application behind a guard.

``python -P -m merganser.services.local_server HOST PORT``; its settings come by the environment.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from typing import TYPE_CHECKING

from merganser.services.prefect_settings import ignore_working_folder
from merganser.services.request_guard import (
    TOKEN_VARIABLE,
    OwnNamesOnly,
    ProvesItself,
    answer,
    is_local,
)

if TYPE_CHECKING:
    from merganser.services.request_guard import App, Receive, Scope, Send

SIGN_IN_PATH = "/merganser/sign-in"

_SCRIPT = """\
const login = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
fetch("/api/admin/version", {headers: {Authorization: "Basic " + login}}).then((answer) => {
  if (!answer.ok) throw new Error(answer.status);
  localStorage.setItem("prefect-password", login);
  location.replace("/");
}).catch(() => {
  document.body.textContent = "This is not the password of this server: merganser server --ui";
});
"""
"""Puts the login where Prefect's pages look for it; it stands behind the ``#``, which no request
sends, and is tried first, so that a foreign link does not replace a right one."""

_PAGE = f"<!doctype html><title>Sign in</title><body>Signing in …<script>{_SCRIPT}</script>"

_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "default-src 'none'; connect-src 'self'; frame-ancestors 'none';"
    f" script-src 'sha256-{_HASH}'",
    "referrer-policy": "no-referrer",
}


class SignsIn:
    """Answers with the page that signs a browser in, and passes on all else."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"] == SIGN_IN_PATH:
            await answer(send, 200, _PAGE, headers=_HEADERS)
        else:
            await self._app(scope, receive, send)


def main(host: str, port: int) -> None:
    """Serve until a signal comes."""
    ignore_working_folder()
    # Prefect's default lets every web page ask.
    os.environ.setdefault("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", f"http://127.0.0.1:{port}")
    import uvicorn  # noqa: PLC0415 - after the environment is set
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    app: App = SignsIn(create_app(final=True))
    if is_local(host):
        app = OwnNamesOnly(app)
    settings = get_current_settings().server
    uvicorn.run(
        ProvesItself(app, os.environ[TOKEN_VARIABLE], port),
        host=host,
        port=port,
        timeout_keep_alive=settings.api.keepalive_timeout,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
        log_level=settings.logging_level.lower(),
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
