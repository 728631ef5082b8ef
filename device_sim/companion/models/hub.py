"""A model's folder as Hugging Face's hub has it: config, tokenizer with chat template, safetensors.

Nothing is fetched, and no code of the folder is run: what is not a folder here must lie in the hub's cache.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from device_sim.companion.models.model import Message, ModelError, Piece, Sampling
from device_sim.companion.models.template import Template
from personality_common.errors import ConfigError, DataError, ToolkitError
from personality_common.files.atomic import read_json_object
from personality_common.printable import excerpt

LONGEST_CONTEXT: Final = 8192
"""Tokens; a model that was trained with more would take memory for all of them."""
CONFIG: Final = "config.json"
GENERATION: Final = "generation_config.json"
_HALF: Final = "\ufffd"
"""What a tokenizer shows of a character whose other bytes are in the next token."""
_WAITS: Final = 8
"""Tokens that may wait for such bytes; a character has four, and what is no character is shown then."""


def find_folder(name: str, scheme: str) -> Path:
    """A folder, or what the hub's cache has under a name.

    Args:
        scheme: `hf` or `mlx`, for messages.

    Raises:
        ConfigError: neither.
        DataError: the folder has no config or no weights as safetensors, or its config names code.
    """
    path = Path(name)
    if not name or not path.is_dir():
        hub: Any = importlib.import_module("huggingface_hub")
        errors: Any = importlib.import_module("huggingface_hub.errors")
        try:
            path = Path(hub.snapshot_download(name, local_files_only=True))
        except (errors.LocalEntryNotFoundError, errors.HFValidationError, OSError, ValueError):
            raise ConfigError(
                f"--model {scheme}:… must be a folder or a name in the hub's cache, got {name!r:.200};"
                " hf download NAME fetches one"
            ) from None
    config = path / CONFIG
    if not config.is_file():
        raise DataError(f"{path}: must have a model's {CONFIG}, has none")
    content = read_json_object(config)
    if "model_file" in content:  # which some versions of mlx-lm run
        raise DataError(f"{config}: must name no code of its own as model_file, does; it is not run")
    if not any(path.glob("model*.safetensors")):
        raise DataError(f"{path}: must have its weights as model*.safetensors, and has none")
    return path


class HubModel(ABC):
    """See `ChatModel`. A runtime of such a folder says which tokens come, and how likely given ones are."""

    name: str

    def __init__(self, path: Path, scheme: str) -> None:
        """
        Args:
            path: by `find_folder`.

        Raises:
            DataError: a damaged file, or no chat template.
        """
        self._path, self._scheme = path, scheme
        in_cache = path.parent.name == "snapshots"
        self.name = (path.parent.parent if in_cache else path.resolve()).name
        self.name = self.name.removeprefix("models--").replace("--", "/") if in_cache else self.name
        self._config = read_json_object(path / CONFIG)
        transformers: Any = importlib.import_module("transformers")
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # the library raises what its parsers raise
            raise DataError(f"{path}: its tokenizer cannot be read: {excerpt(error)}") from None
        if not self._tokenizer.chat_template:
            raise DataError(f"{path}: must be a language model that chats, has no chat template")
        trained = self._text_config().get("max_position_embeddings")
        if not isinstance(trained, int) or trained < 1:
            raise DataError(f"{path / CONFIG}: max_position_embeddings must be a whole number, is not")
        self.context_length = min(trained, LONGEST_CONTEXT)
        self._ends = self._end_ids()
        self._template = Template(self._render, str(path), takes_system=self._takes_system())
        self.system = self._template.system

    @abstractmethod
    def _tokens(self, prompt: list[int], sampling: Sampling) -> Generator[int, None, None]:
        """Tokens of an answer, without an end of their own; closed when they are enough."""

    @abstractmethod
    def _log_probabilities(self, prompt: list[int], answer: list[int]) -> list[float]:
        """Natural logarithms, of each token of an answer."""

    def count(self, messages: Sequence[Message]) -> int:
        return len(self.prompt_ids(messages))

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt up to where the answer begins; DataError as in `Template.cut`."""
        written, texts = self._template.cut(messages)
        ids = self._encode(written[0], special=True)
        for text, behind in zip(texts, written[1:], strict=True):
            ids = ids + self._encode(text, special=False) + self._encode(behind, special=True)
        return ids

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        if sampling.grammar is not None:
            raise ToolkitError(f"{self._scheme}: takes no grammar; a GGUF file does")
        tokens = self._tokens(self.prompt_ids(messages), sampling)
        ids: list[int] = []
        shown = 0
        """Characters that were told."""
        try:
            for token in tokens:
                if token in self._ends:
                    yield Piece(self._decode(ids)[shown:], "done")
                    return
                ids.append(token)
                text = self._decode(ids)
                whole = not text.endswith(_HALF) or text.endswith(_HALF * _WAITS)
                if len(ids) == sampling.max_tokens:
                    yield Piece(text[shown:], "limit")
                    return
                if whole and len(text) > shown:
                    yield Piece(text[shown:])
                    shown = len(text)
        except (RuntimeError, MemoryError) as error:
            raise ModelError(f"{self._path}: {excerpt(error)}") from None
        finally:
            tokens.close()

    def log_probabilities(self, messages: Sequence[Message], answer: str) -> list[float]:
        return self._log_probabilities(self.prompt_ids(messages), self._encode(answer, special=False))

    def _encode(self, text: str, *, special: bool) -> list[int]:
        """Tokens of a text; special: of what names a special token, that."""
        if not text:
            return []
        return list(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not special))

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _render(self, messages: list[dict[str, str]]) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            )
        except Exception as error:  # a template raises what it wants
            raise DataError(f"{self._path}: its chat template refuses: {excerpt(error)}") from None

    def _takes_system(self) -> bool:
        try:
            shown = self._render([{"role": "system", "content": "xyzzy"}, {"role": "user", "content": "x"}])
        except DataError:
            return False
        return "xyzzy" in shown

    def _end_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        found = [self._tokenizer.eos_token_id, self._text_config().get("eos_token_id")]
        if (self._path / GENERATION).is_file():
            found.append(read_json_object(self._path / GENERATION).get("eos_token_id"))
        flat = [id for one in found for id in (one if isinstance(one, list) else [one])]
        return frozenset(id for id in flat if isinstance(id, int))

    def _text_config(self) -> dict[str, Any]:
        """Of the language model, in a model that does more."""
        inner = self._config.get("text_config")
        return inner if isinstance(inner, dict) else self._config
