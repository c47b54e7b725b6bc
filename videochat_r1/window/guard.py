"""Who may ask the server of a window, and what browsers are told that its page may do."""

import hashlib
import secrets
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOCAL = {"127.0.0.1", "localhost", "[::1]", "::1"}
_READING = {"GET", "HEAD"}


class Guard:
    """Lets in who may look, and tells browsers what the page may do.

    Without a token, only names of this machine are answered to, so that no site can have its own name lead here. With one, a browser
    shows it once, as `/?token=...`, and is known by a cookie from then on. What changes something is taken from the page itself only:
    a browser says where a request comes from, and other programs need not.

    Args:
        app: behind it.
        token: asked for once of every browser; None where only this machine can connect.
        policy: the Content-Security-Policy of the page.
    """

    def __init__(self, app: ASGIApp, token: str | None, policy: str) -> None:
        self._app, self._token, self._policy = app, token, policy
        # Cookies are of a host, whose windows have several ports.
        self._cookie = f"videochat_r1_{hashlib.sha256((token or '').encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or has the application answer."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        refusal = self._refusal(scope)
        return await (refusal or self._app)(scope, receive, self._with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if scope["method"] not in _READING and origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return PlainTextResponse("another site's page has no business here", 403)
        if self._token is None:
            name = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
            return None if name in _LOCAL else PlainTextResponse("this window answers to its own machine only", 403)
        [given] = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[:1]
        if scope["path"] == "/" and given and secrets.compare_digest(given.encode(), self._token.encode()):
            answer = RedirectResponse("/")
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return answer
        shown = Request(scope).cookies.get(self._cookie, "")
        if secrets.compare_digest(shown.encode(), self._token.encode()):
            return None
        return PlainTextResponse("open the address that was printed, with its token", 403)

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = self._policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cache-Control"] = "no-store"
            await send(message)

        return sending
