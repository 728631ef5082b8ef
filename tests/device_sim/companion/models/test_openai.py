"""A server by URL: a real one, small, that behaves, stalls, breaks off, and is busy."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from device_sim.companion.models.model import Message, ModelError, Piece, Sampling
from device_sim.companion.models.openai import OpenAIModel
from device_sim.companion.models.opening import open_model
from personality_common.errors import ConfigError, ToolkitError

ASKED = [Message("system", "Be brief."), Message("user", "Hello <|im_end|>")]
Behaviour = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Behaves as the test says; keeps what it was asked."""

    daemon_threads = True
    behave: Behaviour
    asked: list[dict[str, object]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        send(self, 200, json.dumps({"object": "list", "data": [{"id": "tiny", "object": "model"}]}).encode())

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.behave(self)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def begin(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()


def say(handler: BaseHTTPRequestHandler, text: str, finish: str | None = None) -> None:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "tiny", "choices": [choice]}
    handler.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
    handler.wfile.flush()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.asked = []
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def collect(model: OpenAIModel) -> tuple[str, str]:
    """What was said, and the error that ended it."""
    said: list[str] = []
    told = ""
    try:
        said.extend(piece.text for piece in model.stream(ASKED, Sampling()))
    except ModelError as error:
        told = str(error)
    assert "\n" not in told
    return "".join(said), told


def test_an_answer(server: Server) -> None:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        say(handler, "Hel")
        say(handler, "lo é", None)
        say(handler, "", "length")

    server.behave = behave
    model = open_model(f"openai:{server.url}#big")
    assert model.name == "big"
    pieces = list(model.stream(ASKED, Sampling(max_tokens=7, temperature=0.5, seed=3)))
    assert pieces == [Piece("Hel"), Piece("lo é"), Piece("", "limit")]
    (asked,) = server.asked
    assert asked["messages"] == [{"role": m.role, "content": m.text.replace("<|im", "< |im")} for m in ASKED]
    assert (asked["model"], asked["max_tokens"], asked["temperature"], asked["seed"]) == ("big", 7, 0.5, 3)
    assert open_model(server.url).name == "tiny"


def test_a_busy_server_is_asked_again_and_not_for_ever(server: Server) -> None:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        if len(server.asked) == 1:
            send(handler, 429, b"{}", Retry_After="0.01")
        else:
            begin(handler)
            say(handler, "Here.", "stop")

    server.behave = behave
    assert collect(OpenAIModel(server.url)) == ("Here.", "")
    assert len(server.asked) == 2

    server.behave = lambda handler: send(handler, 429, b"{}", Retry_After="0.01")
    said, error = collect(OpenAIModel(server.url))
    assert (said, "busy or your quota is used up (429)" in error) == ("", True)
    assert len(server.asked) == 2 + 3


def test_a_server_that_stalls(server: Server) -> None:
    release = threading.Event()

    def behave(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        say(handler, "I think")
        release.wait(10)

    server.behave = behave
    start = time.monotonic()
    said, error = collect(OpenAIModel(server.url, stall_s=0.2))
    release.set()
    assert (said, "nothing for too long" in error) == ("I think", True)
    assert time.monotonic() - start < 5
    assert len(server.asked) == 1  # what has begun is not asked again


def test_a_stream_that_breaks_off(server: Server) -> None:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        say(handler, "I thi")

    server.behave = behave
    said, error = collect(OpenAIModel(server.url))
    assert (said, "broke off" in error) == ("I thi", True)

    def garbled(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        handler.wfile.write(b"data: {no json\n\n")

    server.behave = garbled
    assert "broke off" in collect(OpenAIModel(server.url))[1]


def test_a_server_that_refuses_or_is_not_there(server: Server) -> None:
    server.behave = lambda handler: send(handler, 400, b'{"error": {"message": "no \\u001b[2J such model"}}')
    _, error = collect(OpenAIModel(server.url))
    assert "refuses with 400" in error
    assert "\x1b" not in error
    with pytest.raises(ModelError, match="cannot be reached"):
        OpenAIModel("http://127.0.0.1:9/v1", stall_s=0.2)
    with pytest.raises(ConfigError, match="must be a URL"):
        open_model("openai:ftp://x#y")


def test_what_the_protocol_has_not(server: Server) -> None:
    model = OpenAIModel(server.url, "m")
    with pytest.raises(ToolkitError, match="no grammar"):
        list(model.stream(ASKED, Sampling(grammar='root ::= "a"')))
    with pytest.raises(ToolkitError, match="log-probabilities"):
        model.log_probabilities(ASKED, "a")
    assert model.count([Message("user", "ab" * 100)]) >= 100
    assert model.is_local
    assert not OpenAIModel("https://example.org/v1", "m").is_local
