"""The server of the window: a few read-only questions about runs as JSON, their videos with ranges, and news as they come.

Addresses hold numbers alone, no path; what they may lead to is decided in `window.media`.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.window.export import exported_groups
from videochat_r1.window.group_view import group_view
from videochat_r1.window.guard import Guard
from videochat_r1.window.media import Shown
from videochat_r1.window.page_text import VIEW
from videochat_r1.window.playable import Copies
from videochat_r1.window.query import FLAGS, ORDERS, Query
from videochat_r1.window.results_view import changes, results_view
from videochat_r1.window.runs import Run, recorded_settings
from videochat_r1.window.serving import as_file, as_json, page_routes
from videochat_r1.window.training_view import training_view
from videochat_r1.window.watcher import Watcher

_MOST_ROWS = 500
_SEARCH_SECONDS = 1.0
_SECONDS_BETWEEN_NEWS = 1.0


def window_app(runs: Sequence[Run], watcher: Watcher, copies: Copies, token: str | None = None) -> ASGIApp:
    """The application.

    Args:
        runs: that it shows.
        watcher: of their logs.
        copies: of videos that browsers do not play.
        token: asked for once of every browser; None where only this machine can connect.
    """
    pages = _Pages(runs, watcher, copies)
    routes = [
        *page_routes(VIEW),
        Route("/api/runs", pages.runs),
        Route("/api/news", pages.news),
        Route("/api/runs/{run:int}/training", pages.training),
        Route("/api/runs/{run:int}/results", pages.results),
        Route("/api/runs/{run:int}/changes", pages.changes),
        Route("/api/runs/{run:int}/groups", pages.groups),
        Route("/api/runs/{run:int}/groups/{number:int}", pages.group),
        Route("/api/runs/{run:int}/groups/{number:int}/saw", pages.saw),
        Route("/api/runs/{run:int}/groups/{number:int}/export", pages.export),
        Route("/api/runs/{run:int}/groups/{number:int}/video", pages.video),
        Route("/api/runs/{run:int}/groups/{number:int}/copy", pages.copy),
        Route("/api/runs/{run:int}/groups/{number:int}/pictures/{place:int}", pages.picture),
    ]
    return Guard(Starlette(routes=routes), token, VIEW.policy())


class _Pages:
    """What each address gives."""

    def __init__(self, runs: Sequence[Run], watcher: Watcher, copies: Copies) -> None:
        self._runs, self._watcher, self._copies = runs, watcher, copies
        self._eyes = Eyes()

    def runs(self, request: Request) -> Response:
        return as_json([self._about(run) for run in self._runs])

    def groups(self, request: Request) -> Response:
        index, asked = self._run(request).index, request.query_params
        query = _query(asked)
        first, limit = _whole(asked, "first", 0), min(_whole(asked, "limit", 100), _MOST_ROWS)
        if text := asked.get("text", "").strip():
            numbers, came_to = index.search(query, text, _whole(asked, "after", 0), limit, _SEARCH_SECONDS)
            return as_json({"rows": index.rows_of(numbers), "after": came_to, "done": came_to >= index.count()})
        return as_json({"rows": index.rows(query, first, limit), "count": index.count(query)})

    def training(self, request: Request) -> Response:
        return as_json(training_view(self._run(request)))

    def results(self, request: Request) -> Response:
        run = self._run(request)
        if run.results is None:
            raise HTTPException(404)
        return as_json(results_view(run.results, run.index))

    def changes(self, request: Request) -> Response:
        run, asked = self._run(request), request.query_params
        other = self._other(asked)
        if other is not None:
            return as_json(changes(other.index.means(), run.index.means(), same_log=False))
        first, last = _whole(asked, "from", 0), _whole(asked, "to", 0)
        return as_json(changes(run.index.means(until=first), run.index.means(until=last), same_log=True))

    def group(self, request: Request) -> Response:
        run, number, group = self._group(request)
        view = group_view(number, self._beside(run, group, request.query_params), run.folders.shown(group))
        query = _query(request.query_params)
        draws = run.index.rows(Query(sample=view["sample"], task=view["task"]), 0, _MOST_ROWS)
        drawn = [{name: row[name] for name in ("number", "step", "mean")} for row in draws]
        return as_json({**view, "neighbours": run.index.neighbours(number, query), "draws": drawn})

    def _beside(self, run: Run, group: Mapping[str, Any], asked: Mapping[str, str]) -> Mapping[str, Any]:
        """The group with the answers of another evaluation to the same sample, each under the name of its run."""
        other = self._other(asked)
        if other is None or run.results is None:
            return group
        rows = other.index.rows(Query(sample=str(group["sample_id"])), 0, 1)
        answered = [(run, group), *((other, other.index.group(row["number"]) or {"rollouts": []}) for row in rows)]
        named = [{**rollout, "name": one.name} for one, own in answered for rollout in own["rollouts"]]
        return {**group, "rollouts": named}

    def _other(self, asked: Mapping[str, str]) -> Run | None:
        number = asked.get("with", "")
        return (
            self._runs[int(number)]
            if number.isascii() and number.isdecimal() and int(number) < len(self._runs)
            else None
        )

    def export(self, request: Request) -> Response:
        run, number, _ = self._group(request)
        text = exported_groups(run, [number], self._copies)
        return Response(
            text, media_type="text/html", headers={"Content-Disposition": f'attachment; filename="group-{number}.html"'}
        )

    def saw(self, request: Request) -> Response:
        run, _, group = self._group(request)
        files = run.folders.shown(group)
        if files.problem is not None:
            raise HTTPException(422, files.problem)
        place = _whole(request.query_params, "rollout", 0)
        try:
            return as_json(self._eyes.look(run, {**group, "rollouts": group["rollouts"][place:][:1]}, files))
        except (ConfigError, VideoError) as error:
            raise HTTPException(422, str(error)) from error

    def video(self, request: Request) -> Response:
        files = self._shown(request).files
        if len(files) != 1:
            raise HTTPException(404)
        return as_file(files[0])

    def copy(self, request: Request) -> Response:
        try:
            shown = self._shown(request)
            return FileResponse(self._copies.of(shown.files, shown.frame_times), media_type="video/mp4")
        except VideoError as error:
            raise HTTPException(422, str(error)) from error

    def picture(self, request: Request) -> Response:
        files, place = self._shown(request).files, request.path_params["place"]
        if place >= len(files):
            raise HTTPException(404)
        return as_file(files[place])

    async def news(self, request: Request) -> Response:
        return StreamingResponse(self._news(), media_type="text/event-stream")

    async def _news(self) -> AsyncIterator[str]:
        told = None
        while not self._watcher.ended:
            if told != self._watcher.changes:
                told = self._watcher.changes
                runs = await asyncio.to_thread(lambda: [self._about(run) for run in self._runs])
                yield f"data: {json.dumps(runs)}\n\n"
            else:
                yield ": still here\n\n"
            await asyncio.sleep(_SECONDS_BETWEEN_NEWS)

    def _about(self, run: Run) -> dict[str, Any]:
        index = run.index
        return {
            "name": run.name,
            "kind": run.kind,
            "groups": index.count(),
            "steps": index.updates(),
            "tasks": index.distinct("task"),
            "sources": index.distinct("source"),
            "read": index.known / index.size if index.size else 1.0,
            "damaged": index.damaged(),
        }

    def _run(self, request: Request) -> Run:
        number = request.path_params["run"]
        if number >= len(self._runs):
            raise HTTPException(404)
        return self._runs[number]

    def _group(self, request: Request) -> tuple[Run, int, Mapping[str, Any]]:
        run, number = self._run(request), request.path_params["number"]
        group = run.index.group(number)
        if group is None:
            raise HTTPException(404)
        return run, number, group

    def _shown(self, request: Request) -> Shown:
        run, _, group = self._group(request)
        shown = run.folders.shown(group)
        if not shown.files:
            raise HTTPException(404)
        return shown


class Eyes:
    """What the models of runs saw; torch and a processor are loaded when it is asked for first."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._of_runs: dict[Path, Any] = {}

    def look(self, run: Run, group: Mapping[str, Any], shown: Shown) -> list[dict[str, Any]]:
        """See `saw.Sight.look`."""
        from videochat_r1.window import saw

        with self._loading:
            if run.folder not in self._of_runs:
                settings = recorded_settings(run)
                if settings is None or (run.results is not None and settings.get("mode") != "run"):
                    raise ConfigError("the run has not recorded with which model and budget it looked at its videos")
                of_settings = saw.recipe_of_training if run.results is None else saw.recipe_of_evaluation
                self._of_runs[run.folder] = saw.Sight(of_settings(settings))
            # Decoders and processors are of one thread at a time.
            return list(self._of_runs[run.folder].look(group, shown))


def _query(asked: Mapping[str, str]) -> Query:
    order = asked.get("order", "log")
    steps = asked.get("from"), asked.get("to")
    return Query(
        task=asked.get("task"),
        source=asked.get("source"),
        sample=asked.get("sample"),
        flags=tuple(flag for flag in asked.get("flags", "").split(",") if flag in FLAGS),
        steps=None if None in steps else (_whole(asked, "from", 0), _whole(asked, "to", 0)),
        order=order if order in ORDERS else "log",
    )


def _whole(asked: Mapping[str, str], name: str, default: int) -> int:
    text = asked.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else default
