"""The endpoint: HTTP within bounds, in front of one model.

Every connection carries one request. Whoever is slow to ask, slow to read, or gone, is let go, and what the
model was saying to them ends. Nothing that a client sends is logged.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import selectors
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from personality_common.endpoint import ollama, openai
from personality_common.endpoint.access import check_key, check_site
from personality_common.endpoint.config import EndpointConfig
from personality_common.endpoint.exchange import Exchange, Said, dumps
from personality_common.endpoint.fields import Fields, parse_object
from personality_common.endpoint.listening import listen
from personality_common.endpoint.model import Card, End, Model, RequestError, Stop
from personality_common.endpoint.page import chat_page
from personality_common.endpoint.site import Site
from personality_common.endpoint.turns import Turns
from personality_common.errors import ToolkitError
from personality_common.terminal.progress import SILENT, Reporter

MAX_BODY: Final = 4 << 20
MAX_CONNECTIONS: Final = 64
ASK_S: Final = 10.0
"""For a request to be there, from its first byte to its last."""
ANSWER_S: Final = 900.0
WRITE_S: Final = 20.0
"""For a client to take in what it is sent."""
END_S: Final = 10.0
"""For an answer to end that is no longer wanted."""
LOOK_S: Final = 0.1
"""Between looks whether clients are late or gone."""
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_EXCHANGES: Final[Mapping[str, Callable[[Fields, Card], Exchange]]] = {
    "/v1/chat/completions": openai.Chat,
    "/v1/completions": openai.Completion,
    "/api/chat": ollama.Chat,
    "/api/generate": ollama.Generate,
}
_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"
)


@dataclass
class _Client:
    """Attributes:
    late: when it is let go, in seconds of the monotonic clock.
    stop: of its answer, once it has asked.
    """

    wire: socket.socket
    late: float
    stop: Stop
    asked: bool = False


class Endpoint(ThreadingHTTPServer):
    """Serves a model until it is closed; `serve_forever` to begin."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        model: Model,
        config: EndpointConfig,
        site: Site = Site(),  # noqa: B008
        reporter: Reporter = SILENT,
        wire: socket.socket | None = None,
    ) -> None:
        """
        Args:
            wire: what `listen` gave, which is this endpoint's from now on; None: listen.

        Raises:
            ToolkitError: see `listen`.
        """
        self.model, self.config, self.reporter = model, config, reporter
        self.page = site.page or chat_page(model.card, with_key=config.api_key is not None)
        self.actions = site.actions
        self.exchanges = {**_EXCHANGES, **site.exchanges}
        self.turns = Turns(config.queue)
        self._clients: dict[int, _Client] = {}
        self._lock = threading.Lock()
        self._looked = 0.0
        self.socket = wire or listen(config)
        # TCPServer would make a socket of its own.
        socketserver.BaseServer.__init__(self, self.socket.getsockname(), _Handler)
        self.server_name, self.server_port = config.host, self.socket.getsockname()[1]

    @property
    def address(self) -> str:
        """Where clients find it."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"http://{host}:{self.server_address[1]}"

    def run(self) -> None:
        """Serve until an exception (KeyboardInterrupt) ends it."""
        try:
            self.serve_forever(LOOK_S)
        finally:
            self.close()

    def close(self) -> None:
        """Stop listening, end what is being answered, and wait for it to end."""
        self.server_close()
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            client.stop.set()
            _hang_up(client.wire)
        self.turns.close(END_S)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._clients) >= MAX_CONNECTIONS
            if not full:
                self._clients[id(request)] = _Client(request, time.monotonic() + ASK_S, Stop())
        if full:
            request.setblocking(False)
            with contextlib.suppress(OSError):
                request.send(_BUSY)
            self.shutdown_request(request)
            return
        request.settimeout(WRITE_S)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._clients.pop(id(request), None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        with self._lock:
            for client in self._clients.values():
                if now > client.late or (client.asked and _is_gone(client.wire)):
                    client.stop.set()
                    _hang_up(client.wire)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection broke; the reason may quote what was asked."""

    def client(self, request: Any) -> _Client:
        with self._lock:
            return self._clients[id(request)]


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "personality-toolkit", ""

    def do_GET(self) -> None:
        self._respond({})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._respond(None)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a path may hold anything."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server refuses by itself, in the protocol's form."""
        self._fail(RequestError("the request must be one of HTTP/1.1 that this endpoint has", code))

    def _respond(self, fields: dict[str, Any] | None) -> None:
        self.close_connection = True
        path = self.path.partition("?")[0]
        try:
            check_site(self.headers, self.server.config)
            if path == "/" and fields is not None:
                self._send(200, "text/html; charset=utf-8", self.server.page.html, self.server.page.headers)
                return
            check_key(self.headers, self.server.config)
            fields = self._body() if fields is None else fields
            client = self.server.client(self.connection)
            client.late, client.asked = time.monotonic() + ANSWER_S, True
            if self.command == "POST" and path in self.server.exchanges:
                self._exchange(
                    self.server.exchanges[path](Fields(fields), self.server.model.card), client.stop
                )
            elif self.command == "POST" and path in self.server.actions:
                self._require_json()
                with self.server.turns.take(client.stop):
                    said = self.server.actions[path](Fields(fields))
                self._json(200, said)
            else:
                self._json(200, self._known(path, Fields(fields)))
        except RequestError as error:
            self._fail(error)
        except OSError:
            return
        # A defect of ours or the model's must not end the endpoint; of the text only the client hears.
        except Exception as error:
            self.server.reporter.warn(f"a request failed: {type(error).__name__}")
            text = str(error) if isinstance(error, ToolkitError) else "the request failed in the endpoint"
            self._fail(RequestError(text, 500, "failed"))

    def _known(self, path: str, fields: Fields) -> Any:
        """What is said without the model."""
        card = self.server.model.card
        entries = {entry["id"]: entry for entry in openai.model_entries(card)}
        match self.command, path:
            case "GET" | "HEAD", "/v1/models":
                return {"object": "list", "data": list(entries.values())}
            case "GET" | "HEAD", _ if path.startswith("/v1/models/"):
                card.variant(path.removeprefix("/v1/models/"))
                return entries.get(path.removeprefix("/v1/models/"), entries[card.name])
            case "GET" | "HEAD", "/api/tags":
                return {"models": ollama.model_entries(card)}
            case "GET" | "HEAD", "/api/ps":
                return {"models": ollama.running_entries(card)}
            case "GET" | "HEAD", "/api/version":
                return {"version": importlib.metadata.version("personality-toolkit")}
            case "POST", "/api/show":
                card.variant(fields.text("model", fields.text("name", card.name)))
                return ollama.model_page(card)
        raise RequestError(f"there is nothing at {self.command} {path[:80]!r}", 404, "unknown_url")

    def _body(self) -> dict[str, Any]:
        lengths = self.headers.get_all("Content-Length", [])
        if self.headers.get("Transfer-Encoding") or len(lengths) != 1:
            raise RequestError("a request must say its Content-Length, once", 411, "length_required")
        if not lengths[0].isascii() or not lengths[0].isdigit() or len(lengths[0]) > 12:
            raise RequestError("Content-Length must be a number", 400)
        if int(lengths[0]) > MAX_BODY:
            raise RequestError(f"a body must have {MAX_BODY:,} bytes or fewer", 413, "too_large")
        body = self.rfile.read(int(lengths[0]))
        if len(body) < int(lengths[0]):
            raise RequestError("the body must be as long as Content-Length says, is shorter", 400)
        return parse_object(body)

    def _require_json(self) -> None:
        if self.headers.get_content_type() != "application/json":
            raise RequestError("Content-Type must be application/json", 415, "content_type")

    def _exchange(self, exchange: Exchange, stop: Stop) -> None:
        if exchange.request is None:
            said = Said()
            self._answer(exchange, exchange.end(said) if exchange.streams else exchange.whole(said))
            return
        with self.server.turns.take(stop):
            pieces = self.server.model.stream(exchange.request, stop)
            with contextlib.closing(pieces) as pieces:
                # What the model refuses, it refuses before its first piece.
                first = next(pieces, End("stop"))
                if exchange.streams:
                    self._stream(exchange, first, pieces, stop)
                    return
                said = Said()
                said.add(first)
                for piece in pieces:
                    said.add(piece)
                    if stop.is_set():
                        return
        self._answer(exchange, exchange.whole(said))

    def _stream(self, exchange: Exchange, first: Any, pieces: Iterator[Any], stop: Stop) -> None:
        self._head(200, exchange.content_type, {})
        said = Said()
        try:
            self.wfile.write(exchange.start())
            piece = first
            while piece is not None and not stop.is_set():
                said.add(piece)
                if not isinstance(piece, End):
                    self.wfile.write(exchange.piece(piece))
                piece = next(pieces, None)
            if not stop.is_set():
                self.wfile.write(exchange.end(said))
        except ToolkitError as error:
            self.server.reporter.warn(f"an answer broke off: {type(error).__name__}")
            self.wfile.write(exchange.broken(RequestError(str(error), 500, "failed")))

    def _answer(self, exchange: Exchange, content: Any) -> None:
        if isinstance(content, bytes):
            self._send(200, exchange.content_type, content, {})
        else:
            self._json(200, content)

    def _fail(self, error: RequestError) -> None:
        body = ollama.error_body if self.path_is_ollama else openai.error_body
        with contextlib.suppress(OSError):
            self._json(error.status, body(error), {"Retry-After": "1"} if error.status == 503 else {})
            self._drain()

    def _drain(self) -> None:
        """Take in what is still being sent: closing before would take back the answer."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(1.0)
        taken = 0
        while taken < 4 * MAX_BODY and (some := self.connection.recv(1 << 16)):
            taken += len(some)

    @property
    def path_is_ollama(self) -> bool:
        # Not set where the request's first line could not be read.
        return getattr(self, "path", "").startswith("/api/")

    def _json(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, "application/json", dumps(content).encode(), headers or {})

    def _send(self, status: int, kind: str, content: bytes, headers: dict[str, str]) -> None:
        self._head(status, kind, {"Content-Length": str(len(content)), **headers})
        if getattr(self, "command", "") != "HEAD":
            self.wfile.write(content)

    def _head(self, status: int, kind: str, headers: dict[str, str]) -> None:
        self.close_connection = True
        self.send_response(status)
        for name, value in {"Content-Type": kind, **_HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _is_gone(wire: socket.socket) -> bool:
    """Whether the other side has hung up."""
    try:
        # First, since a socket with a timeout waits even for what must not wait.
        with selectors.DefaultSelector() as ready:
            ready.register(wire, selectors.EVENT_READ)
            return bool(ready.select(0)) and not wire.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True


def _hang_up(wire: socket.socket) -> None:
    with contextlib.suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)
