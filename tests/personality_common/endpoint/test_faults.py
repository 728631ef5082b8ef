"""Clients that are slow, gone, many, or hostile: the model is let go, and the next is answered."""

import json
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from personality_common.endpoint import server
from personality_common.endpoint.config import EndpointConfig
from personality_common.endpoint.model import Card, End, Piece, Request, Stop, Text
from personality_common.endpoint.server import Endpoint

SOON_S = 15.0
"""Until something has happened; on a busy machine that takes longer than it should."""


class Endless:
    """Talks until it is stopped; `tokens` is what it has said, `ended` how often it ended."""

    card = Card("endless", 128)

    def __init__(self, pause: float = 0.01, most: int = 10**9) -> None:
        self.pause, self.most = pause, most
        self.started = self.ended = self.running = self.most_at_once = 0

    def stream(self, request: Request, stop: Stop) -> Generator[Piece, None, None]:
        self.started += 1
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            for _ in range(self.most):
                if stop.is_set():
                    return
                time.sleep(self.pause)
                yield Text("x" * 1000)
            yield End("stop")
        finally:
            self.running -= 1
            self.ended += 1


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def start(model: Endless, queue: int = 8) -> Endpoint:
        endpoint = Endpoint(model, EndpointConfig(port=0, queue=queue))
        threading.Thread(target=endpoint.run, daemon=True).start()
        made.append(endpoint)
        return endpoint

    yield start
    for endpoint in made:
        endpoint.shutdown()


def connect(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection(("127.0.0.1", endpoint.server_address[1]), timeout=SOON_S)


def asking(stream: bool = True) -> bytes:
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def everything(wire: socket.socket) -> bytes:
    found = b""
    try:
        while some := wire.recv(1 << 16):
            found += some
    except ConnectionResetError:
        pass
    return found


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("stream", [True, False])
def test_the_model_stops_when_the_client_has_gone(serve: Callable[..., Endpoint], stream: bool) -> None:
    model = Endless()
    endpoint = serve(model)
    with connect(endpoint) as wire:
        wire.sendall(asking(stream))
        if stream:
            assert wire.recv(100).startswith(b"HTTP/1.1 200")
        eventually(lambda: model.running == 1)
    eventually(lambda: model.ended == 1)
    # Whoever waits in the queue and goes is never answered.
    with connect(endpoint) as first:
        first.sendall(asking())
        eventually(lambda: model.started == 2)
        with connect(endpoint) as second:
            second.sendall(asking())
            time.sleep(0.3)
        time.sleep(0.5)
    eventually(lambda: model.ended == 2)
    assert model.started == 2


def test_a_client_that_does_not_read_is_let_go(
    serve: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "WRITE_S", 0.3)
    model = Endless(pause=0.0)
    with connect(serve(model)) as wire:
        wire.sendall(asking())
        eventually(lambda: model.ended == 1)


def test_half_a_request_is_not_waited_for(
    serve: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ASK_S", 0.5)
    model = Endless()
    endpoint = serve(model)
    whole = asking()
    for part in (b"", whole[:10], whole[:60], whole[:-5]):
        with connect(endpoint) as wire:
            wire.sendall(part)
            everything(wire)
    # A byte now and then is no whole request either.
    with connect(endpoint) as wire, pytest.raises(OSError):
        for byte in whole:
            wire.sendall(bytes([byte]))
            time.sleep(0.05)
    assert model.started == 0
    # Half of a body and no more to come: told at once.
    with connect(endpoint) as wire:
        wire.sendall(whole[:-5])
        wire.shutdown(socket.SHUT_WR)
        assert b"must be as long as Content-Length says" in everything(wire)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: 99999999999", b"413"),
        (b"Content-Length: -1", b"400"),
        (b"Content-Length: 1_0", b"400"),
        (b"Content-Length: 2\r\nContent-Length: 3", b"411"),
        (b"Transfer-Encoding: chunked", b"411"),
        (b"X: y", b"411"),
        (b"Content-Length: 2\r\nHost: evil.example", b"400"),
        (b"X: " + b"y" * 70_000, b"431"),
        (b"\r\n".join(b"X%d: y" % i for i in range(200)), b"431"),
    ],
)
def test_lengths_and_heads_are_within_bounds(
    serve: Callable[..., Endpoint], head: bytes, status: bytes
) -> None:
    with connect(serve(Endless())) as wire:
        wire.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n")
        assert everything(wire).split(b" ")[1] == status


def test_a_thousand_hostile_requests(
    serve: Callable[..., Endpoint], capfd: pytest.CaptureFixture[str]
) -> None:
    model = Endless(most=2)
    endpoint = serve(model)
    attacks = (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 50,
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n[[[[[",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: evil\r\nContent-Length: 2\r\n\r\n{}",
        b"X" * 70_000,
        b"",
    )

    def attack(index: int) -> bytes:
        try:
            with connect(endpoint) as wire:
                wire.sendall(attacks[index % len(attacks)])
                wire.shutdown(socket.SHUT_WR)
                return everything(wire)
        except OSError:
            return b""

    before = threading.active_count()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(attack, range(1000)))
    assert all(not a or a.split(b" ")[1][:1] in b"45" for a in answers if a.startswith(b"HTTP"))
    with connect(endpoint) as wire:
        wire.sendall(asking())
        assert everything(wire).endswith(b"data: [DONE]\n\n")
    eventually(lambda: threading.active_count() <= before + 1)
    assert capfd.readouterr() == ("", "")


def test_two_are_answered_one_after_the_other(serve: Callable[..., Endpoint]) -> None:
    model = Endless(most=10)
    endpoint = serve(model)

    def ask(_: int) -> bytes:
        with connect(endpoint) as wire:
            wire.sendall(asking())
            return everything(wire)

    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(ask, range(4)):
            assert answer.count(b'"content":"xxx') == 10
            assert answer.endswith(b"data: [DONE]\n\n")
    assert (model.started, model.most_at_once) == (4, 1)


def test_beyond_the_queue_there_is_503(serve: Callable[..., Endpoint]) -> None:
    model = Endless()
    endpoint = serve(model, queue=1)
    with connect(endpoint) as first, connect(endpoint) as second, connect(endpoint) as third:
        first.sendall(asking())
        eventually(lambda: model.running == 1)
        second.sendall(asking())
        eventually(lambda: endpoint.turns._inside == 2)
        third.sendall(asking())
        answer = everything(third)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 1" in answer
    assert b"answers one at a time and 1 wait" in answer


def test_beyond_the_connections_there_is_503(
    serve: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    endpoint = serve(Endless())
    with connect(endpoint), connect(endpoint):
        eventually(lambda: len(endpoint._clients) == 2)
        with connect(endpoint) as third:
            assert everything(third).startswith(b"HTTP/1.1 503")
    eventually(lambda: not endpoint._clients)


def test_closing_ends_what_is_being_said(serve: Callable[..., Endpoint]) -> None:
    model = Endless()
    endpoint = serve(model)
    with connect(endpoint) as wire:
        wire.sendall(asking())
        eventually(lambda: model.running == 1)
        endpoint.shutdown()
        eventually(lambda: model.ended == 1)
        everything(wire)
