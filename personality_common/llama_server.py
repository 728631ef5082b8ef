"""llama.cpp in this process, by the package `xllamacpp`: a GGUF file behind its own HTTP interface."""

from __future__ import annotations

import http.client
import importlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from personality_common.errors import DataError, ToolkitError

TIMEOUT_S: Final = 600.0
"""For one answer of the server: a long prompt takes minutes on a slow machine."""
_QUIET: Final = -1


class LlamaServer:
    """A model that llama.cpp has loaded. One request at a time; it stays until the object goes."""

    def __init__(
        self,
        path: Path,
        *,
        context: int,
        threads: int = 1,
        exact: bool = False,
        adapters: Sequence[Path] = (),
    ) -> None:
        """Load a file, and listen on this machine alone, to who knows the key of this object.

        Args:
            context: tokens of a prompt and its answer.
            threads: more than there are idle cores make it slower by far.
            exact: keys and values in float32 and plain attention: to compare with PyTorch. Otherwise
                llama.cpp's own defaults, which round to float16.
            adapters: LoRA files, off until a request names them by number: `"lora": [{"id": 0, "scale": 1}]`.

        Raises:
            DataError: llama.cpp does not take the file, or an adapter.
            ToolkitError: the package is not installed.
        """
        try:
            llama: Any = importlib.import_module("xllamacpp")
        except ImportError:
            raise ToolkitError(
                "the package xllamacpp is not installed; pip install 'personality-toolkit[companion]' or [lm]"
            ) from None
        settings = llama.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx = context
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        settings.n_parallel = settings.n_threads_http = 1
        settings.warmup = False
        settings.verbosity = _QUIET
        settings.use_jinja = True
        settings.port = 0
        settings.endpoint_slots = False  # tells what others ask
        self._key = secrets.token_hex(16)
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
        address = urlsplit(self._server.listening_address)
        self._host, self._port = address.hostname or "", address.port

    def get(self, path: str) -> Any:
        """The answer to a GET, as JSON; raises as `post`."""
        return self._whole("GET", path, None)

    def post(self, path: str, request: Mapping[str, Any]) -> Any:
        """The answer to a POST of JSON, as JSON.

        Raises:
            ToolkitError: llama.cpp refuses the request.
        """
        return self._whole("POST", path, request)

    def stream(self, path: str, request: Mapping[str, Any]) -> Iterator[Any]:
        """Parts of an answer as they come; closing the iterator stops llama.cpp. Raises as `post`."""
        connection, answer = self._ask("POST", path, {**request, "stream": True})
        try:
            for line in answer:
                if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                    yield json.loads(line[len(b"data: ") :])
                elif line.startswith(b"error: "):
                    raise ToolkitError(f"llama.cpp must answer {path}, says {line[:300]!r}")
        finally:
            answer.close()
            connection.close()

    def _whole(self, method: str, path: str, request: Mapping[str, Any] | None) -> Any:
        connection, answer = self._ask(method, path, request)
        try:
            return json.loads(answer.read())
        finally:
            connection.close()

    def _ask(
        self, method: str, path: str, request: Mapping[str, Any] | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        try:
            connection.request(method, path, None if request is None else json.dumps(request), headers)
            answer = connection.getresponse()
            if answer.status != 200:
                body = answer.read()
                raise ToolkitError(f"llama.cpp must answer {path}, says {answer.status}: {body[:300]!r}")
        except BaseException:
            connection.close()
            raise
        return connection, answer
