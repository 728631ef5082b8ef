"""Any server that speaks OpenAI's protocol, by its URL: llama.cpp, Ollama, vLLM, LM Studio, a hosted one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from device_sim.companion.models.model import Message, ModelError, Piece, Sampling
from personality_common.errors import ConfigError, ToolkitError
from personality_common.printable import excerpt

CONTEXT: Final = 4096
"""Tokens that every such server is taken to have room for: the protocol does not tell."""
CONNECT_S: Final = 10.0
STALL_S: Final = 60.0
"""Without a byte."""
RETRIES: Final = 2
"""Of a request that was refused for the moment (429, 5xx) or did not arrive; nothing is asked again once an
answer has begun."""
BYTES_PER_TOKEN: Final = 2
"""At least, in text of any language that tokenizers know; English has 4."""
PER_MESSAGE: Final = 8
"""Tokens of a role and its marks, at most."""


class OpenAIModel:
    """See `ChatModel`. Its counts are upper estimates; it has neither grammar nor log-probabilities.

    The server tokenizes what it is sent, and may take `<|im_end|>` in a text for what it is called: the two
    characters that such names begin with are sent apart. Other marks of other models are not known here.
    """

    system: str | None

    def __init__(self, url: str, model: str | None = None, *, stall_s: float = STALL_S) -> None:
        """
        Args:
            url: of the interface, which mostly ends with `/v1`.
            model: None: the first that the server names.

        Raises:
            ToolkitError: the package `openai` is not installed.
            ConfigError: no URL.
            ModelError: the server does not answer, or names no model.
        """
        try:
            self._openai: Any = importlib.import_module("openai")
            httpx: Any = importlib.import_module("httpx")
        except ImportError:
            raise ToolkitError(
                "a server by URL needs the package openai; pip install 'personality-toolkit[openai]'"
            ) from None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--model must be a URL of http or https, got {url!r:.200}")
        self.host = parts.hostname
        self.context_length = CONTEXT
        self.system = None
        self._url = url
        # The client lets out, as it is, what it cannot parse.
        self._broken: tuple[type[Exception], ...] = (self._openai.OpenAIError, httpx.HTTPError, ValueError)
        self._client = self._openai.OpenAI(
            base_url=url,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            max_retries=RETRIES,
            timeout=httpx.Timeout(stall_s, connect=CONNECT_S),
        )
        self.name = model or self._first_model()

    @property
    def is_local(self) -> bool:
        """Whether what is said stays on this machine."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def count(self, messages: Sequence[Message]) -> int:
        return sum(len(m.text.encode()) // BYTES_PER_TOKEN + PER_MESSAGE for m in messages)

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        if sampling.grammar is not None:
            raise ToolkitError("a server by URL takes no grammar; a GGUF file does")
        extra = {} if sampling.seed is None else {"seed": sampling.seed}
        ended = False
        try:
            with self._client.chat.completions.create(
                model=self.name,
                messages=[{"role": m.role, "content": m.text.replace("<|", "< |")} for m in messages],
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                stream=True,
                **extra,
            ) as answer:
                for chunk in answer:
                    if not chunk.choices:
                        continue
                    choice = chunk.choices[0]
                    ended = choice.finish_reason is not None
                    end = "limit" if choice.finish_reason == "length" else "done"
                    yield Piece(choice.delta.content or "", end if ended else None)  # type: ignore[arg-type]
                    if ended:
                        return
        except self._broken as error:
            raise ModelError(self._said(error)) from None
        raise ModelError(f"{self._url}: must say how its answer ends, and broke off")

    def log_probabilities(self, messages: Sequence[Message], answer: str) -> list[float]:
        raise ToolkitError("a server by URL tells no log-probabilities of a text; a GGUF file does")

    def _first_model(self) -> str:
        try:
            models = list(self._client.models.list())
        except self._broken as error:
            raise ModelError(self._said(error)) from None
        if not models:
            raise ModelError(f"{self._url}: must name a model, names none; give --model {self._url}#NAME")
        return str(models[0].id)

    def _said(self, error: Exception) -> str:
        """What went wrong, in one line."""
        openai = self._openai
        if isinstance(error, openai.APITimeoutError) or "Timeout" in type(error).__name__:
            return f"{self._url}: must answer, and has said nothing for too long"
        if isinstance(error, openai.RateLimitError):
            return f"{self._url}: is busy or your quota is used up (429), after {RETRIES} more tries"
        if isinstance(error, openai.APIStatusError):
            return f"{self._url}: refuses with {error.status_code}: {excerpt(error.message)}"
        if isinstance(error, openai.APIConnectionError):
            return f"{self._url}: cannot be reached; is the server running?"
        return f"{self._url}: broke off: {excerpt(error)}"
