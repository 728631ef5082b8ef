"""The protocols, by their makers' own clients, in front of a model that says what it is told to."""

import json
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import httpx
import ollama
import openai
import pytest

from personality_common.endpoint.config import EndpointConfig
from personality_common.endpoint.model import Call, Card, End, Piece, Request, RequestError, Stop, Text
from personality_common.endpoint.server import Endpoint
from personality_common.errors import ConfigError, ToolkitError

CARD = Card(
    "tiny", 128, ("newton",), "starcoder2", 1e9, 1000, "a" * 64, 1_500_000, "Q8_0", "{{ x }}", tools=True
)
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "now", "description": "d", "parameters": {"type": "object", "properties": {}}},
    }
]
HTTP = httpx.Client(verify=False)
"""Without certificates, which take long to read."""
ASK: Any = [{"role": "user", "content": "Hi"}]


class Puppet:
    """Says what `says` gives for a request, and keeps the requests."""

    card = CARD

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.says: Callable[[Request], Iterator[Piece]] = lambda request: iter(
            [Text("Grüß"), Text(" dich"), End("stop", 7, 2)]
        )

    def stream(self, request: Request, stop: Stop) -> Generator[Piece, None, None]:
        self.asked.append(request)
        yield from self.says(request)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint(Puppet(), EndpointConfig(port=0))
    thread = threading.Thread(target=endpoint.run)
    thread.start()
    yield endpoint
    endpoint.shutdown()
    thread.join()


@pytest.fixture
def model(endpoint: Endpoint) -> Puppet:
    endpoint.model = puppet = Puppet()
    return puppet


@pytest.fixture(scope="module")
def by_openai(endpoint: Endpoint) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def by_ollama(endpoint: Endpoint) -> ollama.Client:
    return ollama.Client(host=endpoint.address)


def test_openai_chat(model: Puppet, by_openai: openai.OpenAI) -> None:
    done = by_openai.chat.completions.create(
        model="tiny:newton",
        messages=[
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ],
        temperature=0.5,
        top_p=0.9,
        seed=-3,
        max_completion_tokens=9,
        stop="x",
        user="someone",
        extra_body={"nobody_knows": 1},
    )
    assert done.choices[0].message.content == "Grüß dich"
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (7, 2, 9)
    assert done.model == "tiny:newton"
    (asked,) = model.asked
    assert asked.variant == "newton"
    assert [(m.role, m.content) for m in asked.messages] == [("system", "Be kind."), ("user", "ab")]
    options = asked.options
    assert (options.temperature, options.top_p, options.seed, options.max_tokens) == (0.5, 0.9, -3, 9)
    assert options.stop == ("x",)


def test_openai_streams(model: Puppet, by_openai: openai.OpenAI) -> None:
    stream = by_openai.chat.completions.create(
        model="tiny", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Grüß dich"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 9
    assert len({chunk.id for chunk in chunks}) == 1
    texts = [
        c.choices[0].text for c in by_openai.completions.create(model="tiny", prompt="Once", stream=True)
    ]
    assert "".join(texts) == "Grüß dich"
    assert model.asked[-1].prompt == "Once"
    assert model.asked[-1].options.max_tokens == 16


def test_openai_calls_tools(model: Puppet, by_openai: openai.OpenAI) -> None:
    model.says = lambda request: iter([Call("now", {"zone": "ä"}), End("stop", 7, 2)])
    done = by_openai.chat.completions.create(model="tiny", messages=ASK, tools=TOOLS, tool_choice="required")
    assert done.choices[0].finish_reason == "tool_calls"
    assert done.choices[0].message.content is None
    calls: Any = done.choices[0].message.tool_calls
    (call,) = calls
    assert json.loads(call.function.arguments) == {"zone": "ä"}
    assert model.asked[-1].call_required
    assert model.asked[-1].tools[0].name == "now"
    # What is sent back is understood: the call, and the tool's answer.
    answered: Any = [
        *ASK,
        done.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "12"},
    ]
    with by_openai.chat.completions.stream(model="tiny", messages=answered, tools=TOOLS) as stream:
        final = stream.get_final_completion()
    assert [message.role for message in model.asked[-1].messages] == ["user", "assistant", "tool"]
    assert model.asked[-1].messages[1].calls == (Call("now", {"zone": "ä"}),)
    assert [request.call_required for request in model.asked] == [True, False]
    calls = final.choices[0].message.tool_calls
    (call,) = calls
    assert call.function.name == "now"
    named: Any = {"type": "function", "function": {"name": "now"}}
    by_openai.chat.completions.create(model="tiny", messages=ASK, tools=TOOLS, tool_choice=named)
    assert model.asked[-1].call_required
    by_openai.chat.completions.create(model="tiny", messages=ASK, tools=TOOLS, tool_choice="none")
    assert model.asked[-1].tools == ()


def test_openai_formats_models_errors(model: Puppet, by_openai: openai.OpenAI) -> None:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}}
    by_openai.chat.completions.create(model="tiny", messages=ASK, response_format=schema)
    assert model.asked[-1].schema == {"type": "integer"}
    assert [entry.id for entry in by_openai.models.list()] == ["tiny", "tiny:newton"]
    assert by_openai.models.retrieve("tiny").created == 1_000_000_000
    with pytest.raises(openai.NotFoundError, match="there is tiny, tiny:newton") as caught:
        by_openai.chat.completions.create(model="gpt-4o", messages=ASK)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="n is not supported"):
        by_openai.chat.completions.create(model="tiny", messages=ASK, n=2)

    def refuses(request: Request) -> Iterator[Piece]:
        raise RequestError("too long", 400, "context_length_exceeded")

    model.says = refuses
    for streams in (False, True):
        with pytest.raises(openai.BadRequestError, match="too long"):
            by_openai.chat.completions.create(model="tiny", messages=ASK, stream=streams)


def breaks(request: Request) -> Iterator[Piece]:
    yield Text("Well")
    raise ToolkitError("broke off")


def test_a_stream_that_breaks_says_so(
    model: Puppet, by_openai: openai.OpenAI, by_ollama: ollama.Client
) -> None:
    model.says = breaks
    with pytest.raises(openai.APIError, match="broke off"):
        list(by_openai.chat.completions.create(model="tiny", messages=ASK, stream=True))
    with pytest.raises(openai.InternalServerError, match="broke off"):
        by_openai.chat.completions.create(model="tiny", messages=ASK)
    with pytest.raises(ollama.ResponseError, match="broke off"):
        list(by_ollama.chat(model="tiny", messages=ASK, stream=True))


def test_ollama_chats(model: Puppet, by_ollama: ollama.Client) -> None:
    done = by_ollama.chat(
        "tiny:latest", ASK, options={"num_predict": 5, "temperature": 0.1, "seed": 3, "stop": ["x"]}
    )
    assert done.message.content == "Grüß dich"
    assert (done.done, done.done_reason, done.prompt_eval_count, done.eval_count) == (True, "stop", 7, 2)
    options = model.asked[-1].options
    assert (options.max_tokens, options.temperature, options.seed, options.stop) == (5, 0.1, 3, ("x",))
    pieces = list(by_ollama.chat("tiny", ASK, stream=True, format={"type": "integer"}))
    assert [piece.message.content for piece in pieces] == ["Grüß", " dich", ""]
    assert [piece.done for piece in pieces] == [False, False, True]
    assert model.asked[-1].schema == {"type": "integer"}
    assert by_ollama.chat("tiny", []).done_reason == "load"
    said = by_ollama.generate("tiny", "Hi", system="Be kind.", stream=True)
    assert "".join(piece.response or "" for piece in said) == "Grüß dich"
    assert [m.role for m in model.asked[-1].messages] == ["system", "user"]
    by_ollama.generate("tiny", "Hi", raw=True)
    assert model.asked[-1].prompt == "Hi"


def now(zone: str) -> str:
    """The time.

    Args:
        zone: where.
    """
    return zone


def test_ollama_calls_tools(model: Puppet, by_ollama: ollama.Client) -> None:
    model.says = lambda request: iter([Call("now", {"zone": "x"}), End("stop", 7, 2)])
    for streams in (False, True):
        found: Any = by_ollama.chat("tiny", ASK, tools=[now], stream=streams)
        answers = list(found) if streams else [found]
        (call,) = [call for one in answers for call in one.message.tool_calls or ()]
        assert (call.function.name, call.function.arguments) == ("now", {"zone": "x"})
    assert model.asked[-1].tools[0].parameters["properties"]["zone"]["type"] == "string"
    result: Any = {"role": "tool", "content": "12", "tool_name": "now"}
    by_ollama.chat("tiny", [*ASK, answers[0].message, result])
    assert model.asked[-1].messages[1].calls == (Call("now", {"zone": "x"}),)


def test_ollama_knows_the_model(model: Puppet, by_ollama: ollama.Client) -> None:
    assert [entry.model for entry in by_ollama.list().models] == ["tiny", "tiny:newton"]
    assert [entry.model for entry in by_ollama.ps().models] == ["tiny"]
    shown = by_ollama.show("tiny")
    assert shown.capabilities == ["completion", "tools"]
    assert shown.template == "{{ x }}"
    with pytest.raises(ollama.ResponseError, match="is not here") as caught:
        by_ollama.chat("other", ASK)
    assert caught.value.status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "must be JSON, is not at line 1"),
        ("[]", "must be an object of JSON, is a list"),
        ("[" * 100_000, "nested"),
        ('{"messages":' + "[" * 80 + "]" * 80 + "}", "nested more than 64 deep"),
        ('{"temperature":NaN}', "must be JSON"),
        ("{}", "messages must have an item at least"),
        ({"messages": "Hi"}, "messages must be a list, is a string"),
        ({"messages": ["Hi"]}, r"messages\[0\] must be an object, is a string"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\].content must be a string, is null"),
        ({"messages": [{"role": "king", "content": ""}]}, r"messages\[0\].role must be one of"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "must be a string"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "pictures"),
        ({"messages": ASK, "max_tokens": 0}, "max_tokens must be a whole number between 1"),
        ({"messages": ASK, "max_tokens": 10**400}, "max_tokens must be a whole number"),
        ({"messages": ASK, "temperature": 3}, "temperature must be a number between 0 and 2"),
        ({"messages": ASK, "temperature": True}, "temperature must be a number"),
        ({"messages": ASK, "stream": "yes"}, "stream must be true or false"),
        ({"messages": ASK, "stop": ["x"] * 17}, "stop must have 16 items or fewer"),
        ({"messages": ASK, "stop": [1]}, "stop must be a string or a list"),
        ({"messages": ASK, "tools": [{"type": "function"}]}, r"tools\[0\].function.name must be a string"),
        ({"messages": ASK, "tools": TOOLS * 2}, "must be a name of its own"),
        ({"messages": ASK, "tool_choice": "required"}, "tool_choice needs tools"),
        ({"messages": ASK, "tools": TOOLS, "tool_choice": "some"}, "tool_choice must be none, auto"),
        ({"messages": ASK, "logprobs": True}, "logprobs is not supported"),
        ({"messages": ASK, "response_format": {"type": "xml"}}, "response_format.type must be"),
    ],
)
def test_bad_requests_are_told_why(model: Puppet, endpoint: Endpoint, body: Any, said: str) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    answer = HTTP.post(f"{endpoint.address}/v1/chat/completions", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    with pytest.raises(RequestError, match=said):
        raise RequestError(answer.json()["error"]["message"])
    assert model.asked == []


def test_errors_are_in_the_protocols_form(endpoint: Endpoint) -> None:
    for path, found in (("/v1/none", dict), ("/api/none", str)):
        answer = HTTP.get(endpoint.address + path)
        assert answer.status_code == 404
        assert isinstance(answer.json()["error"], found)
    assert HTTP.put(endpoint.address + "/v1/models").status_code == 501
    assert HTTP.head(endpoint.address + "/").status_code == 200
    assert HTTP.get(endpoint.address + "/api/version").json()["version"]


def test_a_defect_is_one_answer_and_no_text_in_the_log(
    model: Puppet, endpoint: Endpoint, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(request: Request) -> Iterator[Piece]:
        raise KeyError("a secret")

    model.says = fails
    heard: list[str] = []

    class Listener:
        def warn(self, message: str) -> None:
            heard.append(message)

    endpoint.reporter = Listener()  # type: ignore[assignment]
    answer = HTTP.post(f"{endpoint.address}/v1/chat/completions?q=secret", json={"messages": ASK})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert heard == ["a request failed: KeyError"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1234"}, 200),
        ({"Host": "[::1]"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "127.0.0.1@evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1234", "Host": "localhost:1234"}, 200),
        ({"Origin": "https://localhost:1234", "Host": "localhost:1234"}, 403),
        ({"Origin": "http://localhost:1", "Host": "localhost:1234"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_pages_of_other_sites_are_refused(
    model: Puppet, endpoint: Endpoint, headers: dict[str, str], status: int
) -> None:
    answer = HTTP.post(f"{endpoint.address}/api/chat", json={"messages": ASK}, headers=headers)
    assert answer.status_code == status
    assert HTTP.get(f"{endpoint.address}/", headers=headers).status_code == status
    assert len(model.asked) == (status == 200)
    assert "access-control-allow-origin" not in answer.headers


def test_others_need_a_key() -> None:
    with pytest.raises(ConfigError, match="lets others in: give --api-key"):
        EndpointConfig("0.0.0.0")
    with pytest.raises(ConfigError, match="without spaces"):
        EndpointConfig(api_key="a b")
    endpoint = Endpoint(Puppet(), EndpointConfig("0.0.0.0", 0, "sesame"))
    threading.Thread(target=endpoint.run, daemon=True).start()
    address = f"http://127.0.0.1:{endpoint.server_address[1]}"
    for key, status in (("", 401), ("Bearer Sesame", 401), ("Basic sesame", 401)):
        answer = HTTP.get(f"{address}/v1/models", headers={"Authorization": key})
        assert answer.status_code == status
    named = {"Authorization": "Bearer sesame", "Host": "my-machine"}
    assert HTTP.get(f"{address}/v1/models", headers=named).status_code == 200
    assert HTTP.get(f"{address}/v1/models", headers=named | {"Origin": "http://x"}).status_code == 403
    assert '"key": true' in HTTP.get(address).text.replace("&quot;", '"')
    with pytest.raises(ToolkitError, match="is taken; choose another with --port"):
        Endpoint(Puppet(), EndpointConfig("0.0.0.0", endpoint.server_address[1], "sesame"))
    endpoint.shutdown()
