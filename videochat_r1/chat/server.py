"""The server of a conversation's page: what can be talked about, uploads, and answers as a stream of events.

Addresses hold keys that cannot be guessed, and no path; what they may lead to is decided in `chat.library`.
"""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from videochat_r1.chat.desk import Desk, Reply
from videochat_r1.chat.events import Event, PassDone
from videochat_r1.chat.library import Item, Library
from videochat_r1.chat.page_text import CHAT
from videochat_r1.chat.question import question_from_json
from videochat_r1.errors import ConfigError, DataError, VideoError
from videochat_r1.parsing.tags import parts_of
from videochat_r1.sample import Media
from videochat_r1.text import parse_json
from videochat_r1.window.guard import Guard
from videochat_r1.window.media import MEDIA
from videochat_r1.window.playable import Copies
from videochat_r1.window.serving import as_file, as_json, page_routes

_MOST_ASKED_BYTES = 64 << 10
_SECONDS_BETWEEN_SIGNS = 0.25


def chat_app(desk: Desk, library: Library, copies: Copies, token: str | None = None) -> ASGIApp:
    """The application.

    Args:
        desk: answers questions.
        library: of what can be talked about.
        copies: of videos that browsers do not play.
        token: asked for once of every browser; None where only this machine can connect.
    """
    pages = _Pages(desk, library, copies)
    routes = [
        *page_routes(CHAT),
        Route("/api/about", pages.about),
        Route("/api/media", pages.listed),
        Route("/api/media", pages.upload, methods=["POST"]),
        Route("/api/media/{key}", pages.remove, methods=["DELETE"]),
        Route("/api/media/{key}/video", pages.file),
        Route("/api/media/{key}/pictures/0", pages.file),
        Route("/api/media/{key}/copy", pages.copy),
        Route("/api/media/{key}/saw", pages.saw, methods=["POST"]),
        Route("/api/media/{key}/conversations", pages.begin, methods=["POST"]),
        Route("/api/conversations/{name}/ask", pages.ask, methods=["POST"]),
    ]
    handlers = {kind: _refused for kind in (ConfigError, DataError, VideoError)}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, CHAT.policy())


def _refused(request: Request, error: Exception) -> Response:
    return Response(str(error), 422, media_type="text/plain")


class _Pages:
    """What each address gives."""

    def __init__(self, desk: Desk, library: Library, copies: Copies) -> None:
        self._desk, self._library, self._copies = desk, library, copies

    def about(self, request: Request) -> Response:
        limits = {"most_bytes": self._library.most_bytes, "endings": list(MEDIA)}
        return as_json({**self._desk.about.to_json(), **limits})

    def listed(self, request: Request) -> Response:
        items, more = self._library.listed(request.query_params.get("text", ""))
        return as_json({"media": [item.to_json() for item in items], "more": more})

    async def upload(self, request: Request) -> Response:
        name, announced = request.query_params.get("name", ""), request.headers.get("content-length", "")
        try:
            item = await self._library.add(name, request.stream(), int(announced) if announced.isdecimal() else 0)
        except ClientDisconnect:
            return Response(status_code=400)
        if await request.is_disconnected():
            # Nobody learns of it any more.
            self._library.remove(item.key)
        return as_json(item.to_json())

    def remove(self, request: Request) -> Response:
        if not self._library.remove(request.path_params["key"]):
            raise HTTPException(404)
        return Response(status_code=204)

    def file(self, request: Request) -> Response:
        return as_file(self._item(request).file)

    def copy(self, request: Request) -> Response:
        return FileResponse(self._copies.of([self._item(request).file]), media_type="video/mp4")

    async def saw(self, request: Request) -> Response:
        item = self._item(request)
        told = await _asked(request)

        def frames(media: Media) -> Mapping[str, Any]:
            from videochat_r1.chat.frames import frames_of

            return frames_of(media, told)

        return as_json(await run_in_threadpool(self._library.read, item, frames))

    def begin(self, request: Request) -> Response:
        item = self._item(request)
        about = {"kind": item.kind, "name": item.name, "count": 1, "problem": None, "start": None, "end": None}
        duration = self._library.length(item)
        return as_json({"conversation": self._desk.begin(item.media), "media": {**about, "duration": duration}})

    async def ask(self, request: Request) -> Response:
        question = question_from_json(await _asked(request), self._desk.about.clues)
        reply = self._desk.ask(request.path_params["name"], question)
        return StreamingResponse(_stream(reply), media_type="text/event-stream")

    def _item(self, request: Request) -> Item:
        item = self._library.item(request.path_params["key"])
        if item is None:
            raise HTTPException(404)
        return item


async def _asked(request: Request) -> Any:
    """The JSON of a request, which is small."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_ASKED_BYTES:
            raise DataError(f"a question has at most {_MOST_ASKED_BYTES:,} bytes")
    return parse_json(body.decode("utf-8", "replace"), "the question")


async def _stream(reply: Reply) -> AsyncIterator[str]:
    """Events as they come; a sign of life between them tells whether somebody still reads."""
    try:
        while not reply.over:
            event = await run_in_threadpool(reply.wait, _SECONDS_BETWEEN_SIGNS)
            if event is not None:
                yield f"data: {json.dumps(_told(event))}\n\n"
            elif not reply.over:
                yield ": still here\n\n"
    finally:
        reply.close()


def _told(event: Event) -> dict[str, Any]:
    """An event for the page, the parts of what was written told apart."""
    told = event.to_json()
    if isinstance(event, PassDone):
        told["parts"] = [{"kind": kind, "text": text} for kind, text in parts_of(event.completion)]
    return told
