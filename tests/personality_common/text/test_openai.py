"""The OpenAI encoder against a local HTTP server that speaks the embeddings protocol."""

import base64
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.text import openai as openai_encoder
from personality_common.text.encoder import load_encoder
from personality_common.text.openai import OpenAIEncoder

KEY = "sk-test-0123456789abcdef"
TEXT = "I never told anyone this before."
MODEL = "text-embedding-3-small"


def vector(text: str) -> np.ndarray:
    """A 3 and a 4 at two places that the text's hash gives: normalized, exactly 0.6 and 0.8."""
    digest = hashlib.sha256(text.encode()).digest()
    first = int.from_bytes(digest[:4], "big") % 1536
    second = (first + 1 + int.from_bytes(digest[4:8], "big") % 1535) % 1536
    row = np.zeros(1536, "<f4")
    row[[first, second]] = 3, 4
    return row


def expected(texts: list[str]) -> np.ndarray:
    table = np.array([0, 0, 0, 0.6, 0.8], np.float32)
    return np.stack([table[vector(text).astype(int)] for text in texts])


def answer(texts: list[str], model: str = MODEL) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": i, "embedding": base64.b64encode(vector(text).tobytes()).decode()}
        for i, text in enumerate(texts)
    ]
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": 1, "total_tokens": 1}}


@dataclass
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Callable[[list[str]], Any] = answer
    """Texts of the request -> an object to send as JSON, or the bytes themselves."""
    missing: int = 0
    """Bytes that Content-Length promises and the connection closes without."""
    silent: bool = False
    """Never answers."""


def refusal(status: int, headers: dict[str, str] | None = None) -> Reply:
    """As OpenAI refuses, and with all that must not reach a user: the key and the texts."""
    return Reply(
        status,
        headers or {},
        lambda texts: {"error": {"message": f"Incorrect API key {KEY} for {texts}", "code": KEY}},
    )


class Service(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.paths: list[str] = []
        self.replies: list[Reply] = []
        """Taken one by one; the last stays. None left at the start: ordinary answers."""
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def reply(self) -> Reply:
        if not self.replies:
            return Reply()
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        self.server.authorizations.append(self.headers["Authorization"])
        self.server.paths.append(self.path)
        reply = self.server.reply()
        if reply.silent:
            self.server.closing.wait()
            return
        body = reply.body(request["input"])
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) + reply.missing))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, and nothing else that steers the client: no proxy, organization, log level."""
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with Service() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client waited, in seconds, without waiting."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def check(embeddings: np.ndarray, texts: list[str]) -> None:
    assert embeddings.shape == (len(texts), 1536)
    assert embeddings.dtype == np.float32
    np.testing.assert_array_equal(embeddings, expected(texts))


def test_embeddings_come_normalized_and_in_order(service: Service) -> None:
    texts = [f"text {i} é 语 👍" for i in range(20)]
    check(OpenAIEncoder().encode(texts), texts)
    assert service.requests == [{"model": MODEL, "input": texts, "encoding_format": "base64"}]
    assert service.authorizations == [f"Bearer {KEY}"]
    assert service.paths == ["/v1/embeddings"]


def test_identity_and_source(service: Service) -> None:
    encoder = OpenAIEncoder()
    identity = encoder.identity
    assert (identity.name, identity.dim, identity.max_length) == (MODEL, 1536, 8191)
    assert identity.weights_sha256 == identity.pooling == ""
    assert encoder.source == "127.0.0.1"
    assert encoder.compute_dtype == "float32"
    assert identity == OpenAIEncoder().identity
    assert service.requests == []


def test_the_service_is_openai_where_no_url_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OpenAIEncoder().source == "api.openai.com"
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    assert OpenAIEncoder().source == "api.openai.com"


def test_load_encoder_finds_it(service: Service) -> None:
    import torch

    encoder = load_encoder("openai", "cpu", torch.float32)
    assert isinstance(encoder, OpenAIEncoder)
    check(encoder.encode([TEXT]), [TEXT])


def test_no_texts_no_request(service: Service) -> None:
    embeddings = OpenAIEncoder().encode([])
    assert embeddings.shape == (0, 1536)
    assert embeddings.dtype == np.float32
    assert service.requests == []


def test_a_request_has_at_most_2048_texts(service: Service) -> None:
    texts = [str(i) for i in range(2049)]
    check(OpenAIEncoder().encode(texts), texts)
    assert [len(request["input"]) for request in service.requests] == [2048, 1]


def test_a_request_has_at_most_300_000_bytes(service: Service) -> None:
    # 37 x 8000 = 296,000; one more would be too much. Characters of 4 bytes, so that bytes are counted.
    texts = [f"{i:04}" + "👍" * 1999 for i in range(80)]
    check(OpenAIEncoder().encode(texts), texts)
    assert [len(request["input"]) for request in service.requests] == [37, 37, 6]


def test_long_texts_are_cut_at_a_whole_character(service: Service) -> None:
    # 8191 = 3 x 2730 + 1 = 4 x 2047 + 3.
    encoder = OpenAIEncoder()
    embeddings = encoder.encode(["a" * 8191, "a" * 8192, "语" * 9000, "👍" * 9000])
    cut = ["a" * 8191, "a" * 8191, "语" * 2730, "👍" * 2047]
    assert service.requests[0]["input"] == cut
    check(embeddings, cut)


def test_rows_follow_index_not_place(service: Service) -> None:
    def shuffled(texts: list[str]) -> dict[str, Any]:
        whole = answer(texts)
        order = np.random.default_rng(0).permutation(len(texts))
        whole["data"] = [whole["data"][i] for i in order]
        return whole

    service.replies = [Reply(body=shuffled)]
    texts = [f"text {i}" for i in range(30)]
    check(OpenAIEncoder().encode(texts), texts)


def test_lists_of_numbers_are_read_too(service: Service) -> None:
    def numbers(texts: list[str]) -> dict[str, Any]:
        whole = answer(texts)
        for item, text in zip(whole["data"], texts, strict=True):
            item["embedding"] = vector(text).tolist()
        return whole

    service.replies = [Reply(body=numbers)]
    check(OpenAIEncoder().encode([TEXT]), [TEXT])


def test_rate_limit_waits_what_the_server_asks(service: Service, slept: list[float]) -> None:
    service.replies = [refusal(429, {"Retry-After": "17"}), Reply()]
    check(OpenAIEncoder().encode([TEXT]), [TEXT])
    assert slept == [17]
    assert len(service.requests) == 2
    assert service.requests[0] == service.requests[1]


@pytest.mark.parametrize("failure", [refusal(500), refusal(503), refusal(408), Reply(missing=10)])
def test_passing_failures_are_tried_again(service: Service, slept: list[float], failure: Reply) -> None:
    service.replies = [failure, failure, Reply()]
    check(OpenAIEncoder().encode([TEXT]), [TEXT])
    assert len(service.requests) == 3
    # 0.5 and 1 s, each less up to 25%.
    assert 0.375 <= slept[0] <= 0.5
    assert 0.75 <= slept[1] <= 1


def fails(encoder: OpenAIEncoder, kind: type[ToolkitError] = ToolkitError) -> str:
    """The one line that a failing `encode` says; nothing in its traceback, either, tells on anybody."""
    with pytest.raises(ToolkitError) as caught:
        encoder.encode([TEXT, "second"])
    assert type(caught.value) is kind
    message = str(caught.value)
    assert "\n" not in message
    whole = "".join(traceback.format_exception(caught.value))
    assert message in whole
    assert KEY not in whole
    assert TEXT not in whole
    assert caught.value.__cause__ is None
    return message


@pytest.mark.parametrize("status", [500, 502, 429])
def test_lasting_failures_end_after_bounded_retries(
    service: Service, slept: list[float], status: int
) -> None:
    service.replies = [refusal(status)]
    message = fails(OpenAIEncoder())
    assert message.startswith(f"127.0.0.1: refused the request with status {status}: ")
    assert "6 retries" in message
    assert len(service.requests) == 7
    # 0.5 + 1 + 2 + 4 + 8 + 8 s, less up to 25%.
    assert len(slept) == 6
    assert 0.75 * 23.5 <= sum(slept) <= 23.5


def test_the_server_cannot_make_it_wait_for_hours(service: Service, slept: list[float]) -> None:
    service.replies = [refusal(429, {"Retry-After": "86400"})]
    assert "status 429" in fails(OpenAIEncoder())
    assert sum(slept) <= 120


@pytest.mark.parametrize(
    ("status", "advice"),
    [(400, "OPENAI_BASE_URL"), (401, "OPENAI_API_KEY"), (403, "the key"), (404, "OPENAI_BASE_URL")],
)
def test_a_refusal_that_lasts_is_not_tried_again(service: Service, status: int, advice: str) -> None:
    service.replies = [refusal(status)]
    message = fails(OpenAIEncoder())
    assert f"status {status}" in message
    assert advice in message
    assert len(service.requests) == 1


def test_silence_ends_in_a_timeout(
    service: Service, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_encoder, "TIMEOUT_SECONDS", 0.05)
    service.replies = [Reply(silent=True)]
    encoder = OpenAIEncoder()
    assert encoder._client.timeout == 0.05
    assert fails(encoder) == "127.0.0.1: no answer within 0.05 s in 7 attempts; try again later"
    assert len(slept) == 6


def test_nobody_there(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    assert "127.0.0.1: not reached in 7 attempts (ConnectError)" in fails(OpenAIEncoder())
    assert len(slept) == 6


def change(**fields: Any) -> Callable[[list[str]], Any]:
    """An answer with other fields in its last item."""

    def body(texts: list[str]) -> Any:
        whole = answer(texts)
        whole["data"][-1].update(fields)
        return whole

    return body


def floats(*values: float, count: int = 1536) -> str:
    return base64.b64encode(np.resize(np.array(values, "<f4"), count).tobytes()).decode()


BAD_ANSWERS = {
    "truncated": (lambda texts: json.dumps(answer(texts)).encode()[:-5], DataError, "must be JSON"),
    "html": (lambda texts: f"<html>{texts}</html>".encode(), DataError, "must be JSON"),
    "empty": (lambda texts: b"", DataError, "must be JSON"),
    "binary": (lambda texts: b"\xff\xfe\x80", DataError, "must be JSON"),
    "deep": (lambda texts: b"[" * 100_000, DataError, "must be JSON"),
    "list": (lambda texts: [TEXT], DataError, "must be JSON"),
    "no data": (lambda texts: {"model": MODEL}, DataError, "list `data`"),
    "items": (lambda texts: {**answer(texts), "data": [TEXT, None]}, DataError, "`index`"),
    "model": (lambda texts: answer(texts, "text-embedding-ada-002"), MismatchError, f"with {MODEL}"),
    "too few": (lambda texts: answer(texts[:-1]), DataError, "2 embeddings, has 1"),
    "too many": (lambda texts: answer([*texts, "third"]), DataError, "2 embeddings, has 3"),
    "index twice": (change(index=0), DataError, "`index`"),
    "index beyond": (change(index=2), DataError, "`index`"),
    "index negative": (change(index=-1), DataError, "`index`"),
    "index boolean": (change(index=True), DataError, "`index`"),
    "index text": (change(index="1"), DataError, "`index`"),
    "short": (change(embedding=floats(1, count=1535)), MismatchError, "(1536,), has (1535,)"),
    "long": (change(embedding=[1.0] * 3072), MismatchError, "(1536,), has (3072,)"),
    "nested": (change(embedding=[[1.0]] * 1536), MismatchError, "(1536,), has (1536, 1)"),
    "ragged": (change(embedding=[[1.0], 2.0]), DataError, "base64"),
    "bytes": (change(embedding=floats(1)[:-4]), DataError, "base64"),
    "no base64": (change(embedding="§" * 8192), DataError, "base64"),
    "words": (change(embedding=[TEXT] * 1536), DataError, "base64"),
    "none": (change(embedding=None), DataError, "base64"),
    "object": (change(embedding={"a": 1}), DataError, "base64"),
    "zero": (change(embedding=floats(0)), DataError, "not zero"),
    "nan": (change(embedding=floats(1, np.nan)), DataError, "finite"),
    "infinite": (change(embedding=floats(1, np.inf)), DataError, "finite"),
    "huge": (change(embedding=[1e300] * 1536), DataError, "finite"),
    "huge integer": (change(embedding=[10**400] * 1536), DataError, "base64"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_malformed_answer_is_refused(service: Service, name: str) -> None:
    body, kind, says = BAD_ANSWERS[name]
    service.replies = [Reply(body=body)]
    assert says in fails(OpenAIEncoder(), kind)
    assert len(service.requests) == 1


@pytest.mark.parametrize("text", ["", "\ud83d"])
def test_a_text_the_service_cannot_take_stops_before_anything_is_sent(service: Service, text: str) -> None:
    with pytest.raises(DataError, match="text 1 of the batch") as caught:
        OpenAIEncoder().encode([TEXT, text])
    assert caught.value.__context__ is None
    assert service.requests == []


@pytest.mark.parametrize("key", [None, "", " \n"])
def test_no_key(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)  # the client would take it instead
    if key is None:
        monkeypatch.delenv("OPENAI_API_KEY")
    else:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ToolkitError, match="set OPENAI_API_KEY"):
        OpenAIEncoder()


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY}…", f"{KEY} x"])
def test_a_key_that_is_no_header_is_not_quoted(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ToolkitError, match="must be printable ASCII") as caught:
        OpenAIEncoder()
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_newline_after_the_key_does_no_harm(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    OpenAIEncoder().encode([TEXT])
    assert service.authorizations == [f"Bearer {KEY}"]


@pytest.mark.parametrize(
    "url",
    [
        "api.openai.com",
        "ftp://host/v1",
        "http://",
        "http://host:99999/v1",
        "http://[::1",
        "http://a..b/v1",
        f"https://user:{KEY}@host/v1",
        f"https://host/v1?key={KEY}",
        f"https://host /{KEY}",
        f"http://999.1.1.1/{KEY}",
    ],
)
def test_an_unusable_url_is_not_quoted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(ToolkitError, match="OPENAI_") as caught:
        OpenAIEncoder()
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ToolkitError, match="pip install openai"):
        OpenAIEncoder()


def test_the_module_does_not_import_the_package() -> None:
    code = "import sys, personality_common.text.openai; sys.exit('openai' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_neither_key_nor_texts_are_logged_or_printed(
    service: Service,
    slept: list[float],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    encoder = OpenAIEncoder()
    service.replies = [refusal(429), Reply()]
    encoder.encode([TEXT])
    service.replies = [refusal(401)]
    fails(encoder)
    service.replies = [Reply(body=lambda texts: f"{KEY} {texts}".encode())]
    fails(encoder, DataError)
    # The client and its HTTP libraries did speak.
    names = {record.name.split(".")[0] for record in caplog.records}
    assert "openai" in names
    assert len(names) > 1
    captured = capfd.readouterr()
    told = [caplog.text, *captured, *(repr(vars(record)) for record in caplog.records), repr(vars(encoder))]
    for part in told:
        assert KEY not in part
        assert TEXT not in part
    assert captured == ("", "")
