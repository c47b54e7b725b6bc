"""A judge without a network or a model: a real HTTP server that speaks the chat protocol and answers by `rules`.

It can misbehave on demand, one fault per request:

* `429`: too many requests, with `Retry-After`;
* `500`: an internal error;
* `broken_json`: a response cut off in the middle;
* `bad_reply`: a reply in prose;
* `wrong_count`: a reply with a label too few (of events: that are no texts);
* `drop`: the connection is closed without a response;
* `hang`: a response only after `hang_seconds`;
* `restart`: all connections are cut, and the server is away for `down_seconds`.
"""

import json
import random
import re
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from videochat_r1.errors import ConfigError
from videochat_r1.judge import rules

QUICK_FAULTS = ("429", "500", "broken_json", "bad_reply", "wrong_count", "drop")
FAULTS = (*QUICK_FAULTS, "hang", "restart")
MODEL = rules.MODEL
API = "/v1"

_LONGEST_SECONDS = 86_400.0
_BLOCK = re.compile(r"BEGIN DATA (\w+)\n(.*?)\nEND DATA \1", re.DOTALL)


class RuleJudgeServer:
    """The server, in threads of this process.

    `script` holds faults for the next requests (None for none), before `fault_rate` is asked; `counts` says what was served:
    `requests`, `answered`, each fault by name, and `peak`, the most requests at once. Every request whose text holds `poison` gets
    a 500. All may be changed while it runs.

    Args:
        port: 0 picks a free one.
        host: address to listen at.
        models: names that it answers to.
        api_key: required key; None takes any.
        latency_seconds: before each answer.
        fault_rate: share of the requests that get one of `faults`.
        faults: what they get, in turn drawn by `seed`.
        retry_after: seconds told with a 429.
        hang_seconds: length of a `hang`.
        down_seconds: length of a `restart`.
        seed: of the faults.

    Raises:
        ConfigError: an unknown fault, an impossible number, or an address that cannot be listened at.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        models: Sequence[str] = (MODEL,),
        api_key: str | None = None,
        latency_seconds: float = 0.0,
        fault_rate: float = 0.0,
        faults: Sequence[str] = QUICK_FAULTS,
        retry_after: float = 0.0,
        hang_seconds: float = 60.0,
        down_seconds: float = 1.0,
        seed: int = 0,
    ) -> None:
        if unknown := sorted(set(faults) - set(FAULTS)):
            raise ConfigError(f"unknown faults {unknown}; there are {', '.join(FAULTS)}")
        if not 0.0 <= fault_rate <= 1.0 or (fault_rate and not faults):
            raise ConfigError(
                f"fault_rate is {fault_rate} with faults {list(faults)}; expected a share from 0 to 1 of some"
            )
        for name, value in (
            ("latency", latency_seconds),
            ("retry_after", retry_after),
            ("hang", hang_seconds),
            ("down", down_seconds),
        ):
            if not 0.0 <= value < _LONGEST_SECONDS:
                raise ConfigError(f"{name} is {value}; expected seconds from 0 to {_LONGEST_SECONDS:g}")
        if not 0 <= port < 65536:
            raise ConfigError(f"port is {port}; expected 1 to 65535, or 0 for a free one")
        self.host, self.port = host, port
        self.models, self.api_key = tuple(models), api_key
        self.latency_seconds, self.hang_seconds, self.down_seconds = latency_seconds, hang_seconds, down_seconds
        self.fault_rate, self.faults, self.retry_after = fault_rate, tuple(faults), retry_after
        self.script: deque[str | None] = deque()
        self.counts: Counter[str] = Counter()
        self.poison: str | None = None
        self._active = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._server: _Server | None = None

    @property
    def base_url(self) -> str:
        """What `judge.base_url` has to be."""
        return f"http://{self.host}:{self.port}{API}"

    def start(self) -> None:
        """Listen; a stopped server starts again at the same port."""
        try:
            self._server = _Server((self.host, self.port), self)
        except OSError as error:
            raise ConfigError(
                f"cannot listen at {self.host}:{self.port}: {error.strerror}; choose another port"
            ) from error
        self._stopped.clear()
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and cut all connections."""
        self._stopped.set()
        self._close()

    def restart(self) -> None:
        """Be away for `down_seconds`, in a thread of its own; nothing if it is away already."""

        def away() -> None:
            if self._close() and not self._stopped.wait(self.down_seconds):
                self.start()

        threading.Thread(target=away, daemon=True).start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop()

    def begin(self, text: str) -> str | None:
        """Count a request that has just come in; what goes wrong with it."""
        with self._lock:
            self._active += 1
            self.counts["requests"] += 1
            self.counts["peak"] = max(self.counts["peak"], self._active)
            fault = None
            if self.poison is not None and self.poison in text:
                fault = "500"
            elif self.script:
                fault = self.script.popleft()
            elif self._random.random() < self.fault_rate:
                fault = self._random.choice(self.faults)
            self.counts[fault or "answered"] += 1
            return fault

    def end(self) -> None:
        """A request is about to be answered."""
        with self._lock:
            self._active -= 1

    def _close(self) -> bool:
        """Whether there was a server to close; of several callers one closes it."""
        with self._lock:
            server, self._server = self._server, None
        if server is None:
            return False
        server.shutdown()
        server.cut_connections()
        server.server_close()
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], judge: RuleJudgeServer) -> None:
        self.judge = judge
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""

    def cut_connections(self) -> None:
        for request in list(self._open):
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was faster


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        judge = self.server.judge
        if self.path == "/counts":
            self._send(200, dict(judge.counts))
        elif self.path != f"{API}/models":
            self._refuse(404, f"there is no {self.path}")
        elif self._has_key():
            models = [{"id": name, "object": "model", "created": 0, "owned_by": "rules"} for name in judge.models]
            self._send(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._has_key():
            return
        if self.path != f"{API}/chat/completions":
            self._refuse(404, f"there is no {self.path}")
            return
        try:
            request = json.loads(body)
            model, messages = request["model"], [(each["role"], each["content"]) for each in request["messages"]]
            if not all(isinstance(content, str) for _, content in messages):
                raise TypeError("a message is no text")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._refuse(400, f"no chat request: {error!r}")
            return
        if model not in self.server.judge.models:
            self._refuse(404, f"the model {model!r} does not exist")
            return
        self._answer(model, messages)

    def _answer(self, model: str, messages: Sequence[tuple[str, str]]) -> None:
        judge = self.server.judge
        fault = judge.begin("\n".join(content for _, content in messages))
        time.sleep(judge.hang_seconds if fault == "hang" else judge.latency_seconds)
        judge.end()
        if fault == "drop":
            self.close_connection = True
        elif fault == "restart":
            self.close_connection = True
            judge.restart()
        elif fault == "429":
            self._refuse(429, "too many requests", {"Retry-After": f"{judge.retry_after:g}"})
        elif fault == "500":
            self._refuse(500, "the server made a mistake")
        else:
            text = "I would rather tell a story." if fault == "bad_reply" else reply_text(messages, fault)
            self._send(200, _completion(model, text), cut=fault == "broken_json")

    def _has_key(self) -> bool:
        key = self.server.judge.api_key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self._refuse(401, "the key is not known here")
        return False

    def _refuse(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, {"error": {"message": message, "code": status}}, headers)

    def _send(
        self, status: int, value: Mapping[str, Any], headers: Mapping[str, str] | None = None, *, cut: bool = False
    ) -> None:
        body = json.dumps(value).encode()
        body = body[: len(body) // 2] if cut else body
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test makes thousands of requests."""


def reply_text(messages: Sequence[tuple[str, str]], fault: str | None = None) -> str:
    """What the judge writes to the (role, content) pairs of a chat: it reads the first block of data and obeys the rest."""
    prompt = "\n".join(content for _, content in messages)
    block = _BLOCK.search(prompt)
    try:
        data = json.loads(block[2]) if block else None
    except (ValueError, RecursionError):
        data = None
    if block is None or not isinstance(data, dict):
        return "There is no block of data."
    reply = dict(rules.reply(prompt[: block.start()] + prompt[block.end() :], data))
    if fault == "wrong_count":
        labels = reply.get("labels")
        reply = {"labels": dict(list(labels.items())[1:])} if isinstance(labels, dict) else {"events": [1, 2]}
    return json.dumps(reply)


def _completion(model: str, text: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-rules",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
