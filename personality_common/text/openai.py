"""The text encoder that is a service: OpenAI's embeddings, through the official client."""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from personality_common.contract import EMBEDDING_DIM
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.text.identity import EncoderIdentity

if TYPE_CHECKING:
    from openai import OpenAI, OpenAIError

MODEL: Final = "text-embedding-3-small"
DEFAULT_URL: Final = "https://api.openai.com/v1"
KEY_VARIABLE: Final = "OPENAI_API_KEY"
URL_VARIABLE: Final = "OPENAI_BASE_URL"

# The service's limits. A token of its byte-level BPE is one byte or more, so as many bytes as
# tokens are allowed is never too much, and no tokenizer has to be downloaded to know it.
MAX_TOKENS: Final = 8191
MAX_REQUEST_TOKENS: Final = 300_000
MAX_REQUEST_TEXTS: Final = 2048

# A request that keeps failing ends after 7 attempts. Between them the client waits what Retry-After
# says (at most 2 minutes; it gives up at once where more is asked), else 0.5, 1, 2, 4, 8, 8 s less
# up to 25%: 7 x 60 s of silence + 6 x 120 s of ordered waiting at worst, 23.5 s where a server refuses.
MAX_RETRIES: Final = 6
TIMEOUT_SECONDS: Final = 60.0

_URL: Final = re.compile(r"https?://[^\s/?#@\\]+(/[^\s?#]*)?")
_ADVICE: Final = {
    401: f"check {KEY_VARIABLE}",
    403: "the key must be allowed to use this model, from this place",
    404: f"it has no {MODEL} at this address; check {URL_VARIABLE}",
    429: f"over a rate limit or the quota after up to {MAX_RETRIES} retries; check the account or try later",
}


class OpenAIEncoder:
    """`text-embedding-3-small`: (N, 1536) float32, computed where the texts are sent.

    The service is the one at OPENAI_BASE_URL (OpenAI's own where that is not set), and the key is
    OPENAI_API_KEY's; it is kept in the client only. Errors name neither the key, nor a text, nor
    what the server said, which may quote both.

    Only the first 8191 UTF-8 bytes of a text are used, cut back to a whole character: about 2000
    tokens of English, and never more than the model's 8191 tokens, whatever the language.
    """

    def __init__(self) -> None:
        """Set the client up; nothing is sent.

        Raises:
            ToolkitError: no `openai` package, no usable key, or no usable base URL.
        """
        key, url = _read_key(), _read_url()
        self._client = _make_client(key, url)
        self.source = str(urlsplit(url).hostname)
        self.compute_dtype = "float32"
        self.identity = EncoderIdentity(
            name=MODEL,
            # What a response must give as its model: all that can be known of the weights.
            revision=MODEL,
            weights_sha256="",
            pooling="",
            max_length=MAX_TOKENS,
            dim=EMBEDDING_DIM,
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, 1536) float32, L2-normalized, in the order of `texts`; one request after the other.

        Raises:
            DataError: a text is empty or not Unicode (nothing was sent then), or an answer is malformed.
            MismatchError: an answer comes from another model or has another dimension.
            ToolkitError: the service refused, or could not be reached after all retries.
        """
        prepared = [_cut(text, position) for position, text in enumerate(texts)]
        embeddings = np.empty((len(prepared), EMBEDDING_DIM), np.float32)
        for start, stop in _batches([len(text.encode()) for text in prepared]):
            content = self._request(prepared[start:stop])
            embeddings[start:stop] = _read_answer(content, stop - start, self.source)
        return embeddings

    def _request(self, texts: list[str]) -> bytes:
        """The body of the answer."""
        from openai import OpenAIError

        try:
            # The raw body: the client's own parsing takes whatever JSON comes.
            return self._client.embeddings.with_raw_response.create(
                model=MODEL, input=texts, encoding_format="base64"
            ).http_response.content
        except OpenAIError as error:
            message = _explain(error, self.source)
        # Outside the handler: the chained error would carry the server's words into a traceback.
        raise ToolkitError(message)


def _read_key() -> str:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise ToolkitError(f"the openai encoder needs a key: set {KEY_VARIABLE}, or use --encoder minilm")
    if not (key.isascii() and key.isprintable()) or " " in key:
        # As a header it would fail in the client, with a message that quotes it.
        raise ToolkitError(
            f"{KEY_VARIABLE} must be printable ASCII without spaces, is not; copy the key again"
        )
    return key


def _read_url() -> str:
    url = os.environ.get(URL_VARIABLE, "").strip() or DEFAULT_URL
    usable = _URL.fullmatch(url) is not None
    try:
        parts = urlsplit(url)
        # As the resolver will, which crashes on bad labels; reading the port checks it.
        usable = usable and parts.port != 0 and bool((parts.hostname or "").encode("idna"))
    except ValueError:
        usable = False
    if not usable:
        # Not quoted, and no user in it: HTTP libraries log URLs whole.
        raise ToolkitError(
            f"{URL_VARIABLE} must be like {DEFAULT_URL}, without user, password, query or fragment; is not"
        )
    return url


def _make_client(key: str, url: str) -> OpenAI:
    try:
        import openai
    except ImportError:
        raise ToolkitError("the openai encoder needs the package openai: pip install openai") from None
    try:
        return openai.OpenAI(api_key=key, base_url=url, max_retries=MAX_RETRIES, timeout=TIMEOUT_SECONDS)
    except Exception as error:  # of httpx's too, whose InvalidURL derives from Exception
        kind = type(error).__name__
    raise ToolkitError(
        f"the OpenAI client cannot be set up ({kind}): check the OPENAI_… and …_PROXY variables"
    )


def _cut(text: str, position: int) -> str:
    """The first MAX_TOKENS bytes of a text, without a broken character at the end."""
    try:
        cut = text.encode()[:MAX_TOKENS].decode(errors="ignore")
    except UnicodeEncodeError:
        cut = ""
    if not cut:
        raise DataError(f"a text to embed must be Unicode and not empty; text {position} of the batch is not")
    return cut


def _batches(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges (start, stop) of texts, each within the limits of a request; lengths in bytes."""
    start = size = 0
    for position, length in enumerate(lengths):
        if position - start == MAX_REQUEST_TEXTS or size + length > MAX_REQUEST_TOKENS:
            yield start, position
            start, size = position, 0
        size += length
    if start < len(lengths):
        yield start, len(lengths)


def _explain(error: OpenAIError, host: str) -> str:
    """One line without the server's words: they may quote the key or the text."""
    import openai

    attempts = MAX_RETRIES + 1
    if isinstance(error, openai.APITimeoutError):
        return f"{host}: no answer within {TIMEOUT_SECONDS:g} s in {attempts} attempts; try again later"
    if isinstance(error, openai.APIConnectionError):
        kind = type(error.__cause__).__name__
        return f"{host}: not reached in {attempts} attempts ({kind}); check the network and {URL_VARIABLE}"
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        again = f"after up to {MAX_RETRIES} retries; try again later"
        advice = again if status in (408, 409) or status >= 500 else f"check {URL_VARIABLE}"
        return f"{host}: refused the request with status {status}: {_ADVICE.get(status, advice)}"
    return f"{host}: the request failed in the OpenAI client ({type(error).__name__})"


def _read_answer(content: bytes, count: int, host: str) -> NDArray[np.float32]:
    """(count, 1536) from the body of an answer, each row at its `index`, L2-normalized."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        raise DataError(f"{host}: an answer must be JSON with a list `data`; check {URL_VARIABLE}")
    if answer.get("model") != MODEL:
        raise MismatchError(f"{host}: must answer with {MODEL}, names another model; check {URL_VARIABLE}")
    items: list[Any] = [item if isinstance(item, dict) else {} for item in answer["data"]]
    if len(items) != count:
        raise DataError(f"{host}: must answer with {count} embeddings, has {len(items)}")
    indices = [item.get("index") for item in items]
    if any(type(index) is not int for index in indices) or sorted(indices) != list(range(count)):
        raise DataError(f"{host}: each `index` from 0 to {count - 1} must come once in an answer; does not")
    embeddings = np.empty((count, EMBEDDING_DIM), np.float32)
    for index, item in zip(indices, items, strict=True):
        embeddings[index] = _read_embedding(item.get("embedding"), host)
    return embeddings


def _read_embedding(value: Any, host: str) -> NDArray[np.float32]:
    """(1536,) float32, L2-normalized; from base64 of little-endian float32, or a list of numbers."""
    try:
        if isinstance(value, str):
            raw = np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float64)
        else:
            raw = np.asarray(list(value), np.float64)
    except (ValueError, TypeError, OverflowError):
        raise DataError(
            f"{host}: an embedding must be base64 of float32 or a list of numbers; is not"
        ) from None
    if raw.shape != (EMBEDDING_DIM,):
        raise MismatchError(f"{host}: an embedding must have shape ({EMBEDDING_DIM},), has {raw.shape}")
    with np.errstate(over="ignore"):  # infinite then, and refused, as it is with a NaN or an infinity in it
        norm = float(np.linalg.norm(raw))
    if not 0 < norm < math.inf:
        raise DataError(f"{host}: an embedding must be finite and not zero; is not")
    return (raw / norm).astype(np.float32)
