"""llama.cpp in this process, with a GGUF file; `xllamacpp` gives it as an HTTP server on a local port.

That server is for this process alone: it has a key that nobody else is told. It has no limits, checks no
Host, and leaves tools out in silence where it does not know a model's template; so clients never reach it.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import json
import secrets
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from personality_common.endpoint.model import Stop
from personality_common.errors import DataError, ToolkitError

TIMEOUT_S: Final = 120.0
"""Without a token; a prompt of some thousand is read in that time."""
MAX_LINE: Final = 1 << 24
_QUIET: Final = -1
_FITS: Final = 1 << 30
"""Bytes of a model that has room on any accelerator."""


class LlamaServer:
    """A file that llama.cpp has loaded. One generation at a time; it stays until the object goes."""

    def __init__(
        self,
        path: Path,
        context_length: int,
        *,
        exact: bool = False,
        threads: int = 1,
        adapters: Sequence[Path] = (),
    ) -> None:
        """Load a file.

        Args:
            context_length: tokens of prompt and answer; memory grows with it.
            exact: keys and values in float32 and plain attention: to compare with PyTorch. Otherwise
                llama.cpp's own defaults, which round to float16.
            threads: more than there are idle cores make it slower by far.
            adapters: LoRA files, off until a request names them by number: `"lora": [{"id": 0, "scale": 1}]`.

        Raises:
            DataError: llama.cpp does not take it, or an adapter.
            ToolkitError: a package is not installed.
        """
        self.context_length = context_length
        try:
            llama: Any = importlib.import_module("xllamacpp")
        except ImportError:
            raise ToolkitError(
                "xllamacpp is not installed: pip install 'personality-toolkit[lm]', or [companion]"
            ) from None
        settings = llama.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx = context_length
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        settings.n_parallel = 1
        # One that is busy with an answer, and one for what is asked beside it.
        settings.n_threads_http = 2
        settings.warmup = settings.endpoint_slots = settings.ui = False
        # Else it is loaded twice, the first time to see whether it has room.
        settings.fit_params = path.is_file() and path.stat().st_size > _FITS
        settings.verbosity = _QUIET
        settings.use_jinja = True
        settings.port = 0
        self._key = secrets.token_urlsafe()
        settings.api_keys = [self._key]
        if adapters:
            settings.lora_adapters = [llama.CommonAdapterLoraInfo(str(adapter), 0.0) for adapter in adapters]
            settings.lora_init_without_apply = True
        if exact:
            settings.cache_type_k = settings.cache_type_v = llama.ggml_type.GGML_TYPE_F32
            settings.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        try:
            self._server = llama.Server(settings)
        except RuntimeError as error:
            with_adapters = f" with {', '.join(map(str, adapters))}" if adapters else ""
            raise DataError(
                f"{path}{with_adapters}: llama.cpp must take the file, does not: {error}"
            ) from None

    def tokenize(self, text: str, *, special: bool = False, add_special: bool = False) -> list[int]:
        """Ids of a text.

        Args:
            special: names of special tokens become those tokens.
            add_special: with the token that a text begins with, if the model has one.
        """
        answer = self.post(
            "/tokenize", {"content": text, "add_special": add_special, "parse_special": special}
        )
        return list(answer["tokens"])

    def about(self) -> Mapping[str, Any]:
        """What llama.cpp says of the model, such as `n_params` and `ftype`."""
        return dict(self.get("/v1/models")["data"][0]["meta"])

    def get(self, path: str) -> Any:
        """What llama.cpp answers to a GET, parsed; raises as `post`."""
        with self._sent(path, None) as (_, answer):
            return json.loads(answer.read())

    def post(self, path: str, request: Mapping[str, Any]) -> Any:
        """What llama.cpp answers, parsed.

        Raises:
            ToolkitError: it refuses the request.
        """
        with self._sent(path, request) as (_, answer):
            return json.loads(answer.read())

    def stream(
        self, request: Mapping[str, Any], stop: Stop | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """Pieces of a completion as llama.cpp makes them; the last has `stop` and counts.

        Closing the iterator ends the generation, and so does `stop`, from any thread.

        Raises:
            ToolkitError: it refuses the request, or the stream broke off.
        """
        with self._sent("/completion", {**request, "stream": True}) as (connection, answer):
            if stop is not None:
                stop.calls(lambda: _hang_up(connection))
            try:
                while line := answer.readline(MAX_LINE):
                    if not line.startswith(b"data: "):
                        continue
                    piece = json.loads(line[6:])
                    if "error" in piece:
                        raise ToolkitError(f"llama.cpp must go on, says: {str(piece['error'])[:200]!r}")
                    yield piece
                    if piece.get("stop"):
                        return
            except (OSError, http.client.HTTPException, ValueError):
                if stop is None or not stop.is_set():
                    raise ToolkitError("llama.cpp must end what it says, broke off") from None
            finally:
                _hang_up(connection)

    @contextlib.contextmanager
    def _sent(
        self, path: str, request: Mapping[str, Any] | None
    ) -> Iterator[tuple[socket.socket, http.client.HTTPResponse]]:
        address = urlsplit(self._server.listening_address)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        try:
            body = None if request is None else json.dumps(request)
            connection.request("POST" if body else "GET", path, body, headers)
            wire = connection.sock
            answer = connection.getresponse()
            if answer.status != 200:
                said = answer.read(MAX_LINE)
                raise ToolkitError(f"llama.cpp must answer {path}, says {answer.status}: {said[:300]!r}")
            yield wire, answer
        finally:
            connection.close()


def _hang_up(wire: socket.socket) -> None:
    with contextlib.suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)
