"""What the servers of all windows share: where they listen and how they end, the addresses of a page's own files, forms of an answer."""

import json
import logging
import platform
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from videochat_r1.errors import ConfigError
from videochat_r1.window.media import media_type
from videochat_r1.window.page_text import Page

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SECONDS_TO_END = 3


class WindowServer(uvicorn.Server):
    """Serves an application until it is told to end; `on_end` lets go then who would never hang up."""

    def __init__(self, app: ASGIApp, on_end: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(app, log_level=logging.WARNING, access_log=False, timeout_graceful_shutdown=_SECONDS_TO_END)
        )
        self._on_end = on_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Before it waits for open connections."""
        self._on_end()
        await super().shutdown(sockets)


def page_routes(page: Page) -> list[Route]:
    """The page at `/`, with its modules and style below `/page`."""

    def shell(request: Request) -> Response:
        return Response(page.served(), media_type="text/html")

    def style(request: Request) -> Response:
        return Response(page.style(), media_type="text/css")

    def module(request: Request) -> Response:
        name = request.path_params["module"]
        if name not in page.modules:
            raise HTTPException(404)
        return Response(page.module(name), media_type="text/javascript")

    return [Route("/", shell), Route("/page/window.css", style), Route("/page/{module}.js", module)]


def as_json(value: Any) -> Response:
    """An answer that the page reads."""
    # Half a character is written as its escape, which no encoding could.
    return Response(json.dumps(value, allow_nan=False), media_type="application/json")


def as_file(path: Path) -> Response:
    """A video or picture, or the range of it that is asked for."""
    return FileResponse(path, media_type=media_type(path))


def token_for(host: str) -> str | None:
    """What browsers have to show where other machines can connect; None where they cannot."""
    return None if host in _LOOPBACK else secrets.token_urlsafe(24)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ConfigError if the port is taken or the address is none of this machine's."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"port {port} of {host} cannot be used: {getattr(error, 'strerror', None) or error}; name another with --port, or "
            "--port 0 for any that is free"
        ) from error


def addresses(host: str, port: int, token: str | None) -> str:
    """Where to look, on this machine and from another, for people."""
    name = f"[{host}]" if ":" in host else host
    if token is not None:
        return f"open http://{name}:{port}/?token={token}\nCtrl-C ends it"
    machine = platform.node() or "THIS_MACHINE"
    return (
        f"open http://{name}:{port}/\nfrom another machine: ssh -N -L {port}:127.0.0.1:{port} {machine}, then the same address\n"
        "Ctrl-C ends it"
    )
