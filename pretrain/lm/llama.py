"""A GGUF file in llama.cpp, in this process: by the package `xllamacpp`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personality_common.llama_server import LlamaServer
from pretrain.lm.bundle.gguf_model import read_model
from pretrain.lm.chat import ROLE_TOKENS, SPECIAL_IDS, SPECIAL_TOKENS, Document, render


@dataclass(frozen=True)
class Completion:
    """What was generated after a prompt.

    Attributes:
        ids: tokens, without the one that ended it.
        text: of those that are text.
        ended: the model said that it was done, or the grammar was satisfied; not cut off.
    """

    ids: list[int]
    text: str
    ended: bool


class Llama(LlamaServer):
    """A model of `pt lm export` that llama.cpp has loaded."""

    def __init__(self, path: Path, *, exact: bool = False, threads: int = 1) -> None:
        """Load a file; as `LlamaServer`, and MismatchError where `pt lm export` writes no such."""
        _, config = read_model(path)
        self.vocab_size = config.vocab_size
        super().__init__(path, config.context_length, exact=exact, threads=threads)

    def log_probabilities(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Of the token after `ids`: (V,)."""
        # What is said of a token waits until the text so far is UTF-8, and never comes for an end. So "!" is
        # drawn, whatever the logits are; those that are reported are from before that.
        request = {"n_predict": 1, "n_probs": self.vocab_size, "logit_bias": [[len(SPECIAL_TOKENS), 1e6]]}
        answer = self._complete(ids, request)
        found = np.full(self.vocab_size, np.nan, np.float32)
        for entry in answer["completion_probabilities"][0]["top_logprobs"]:
            found[entry["id"]] = entry["logprob"]
        return found

    def generate(
        self,
        ids: Sequence[int],
        most: int,
        grammar: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Completion:
        """Go on after a prompt until `<|end|>`, the end of the grammar, or `most` tokens.

        Args:
            grammar: GBNF that what is said must follow.
            temperature: 0 takes the likeliest.

        Raises:
            ToolkitError: llama.cpp refuses the grammar, or the prompt is longer than the context.
        """
        request = {"n_predict": most, "return_tokens": True, "temperature": temperature, "seed": seed}
        answer = self._complete(ids, request | ({"grammar": grammar} if grammar else {}))
        ended = answer["stop_type"] == "eos"
        tokens: list[int] = answer["tokens"]
        return Completion(tokens[:-1] if ended else tokens, answer["content"], ended)

    def encode_prompt(self, document: Document) -> list[int]:
        """As `Tokenizer.encode_prompt`, by the file's own tokenizer: no text makes a special token."""
        parts = (
            [SPECIAL_IDS[part.text]] if part.special else self.tokenize(part.text)
            for part in render(document)
        )
        return [*(id for ids in parts for id in ids), SPECIAL_IDS[ROLE_TOKENS["assistant"]]]

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = (), **variables: Any
    ) -> str:
        """The file's chat template over OpenAI's messages and tools, by llama.cpp.

        Args:
            variables: of the template, such as `perspective`.
        """
        request: dict[str, Any] = {"messages": list(messages), "chat_template_kwargs": variables}
        answer = self.post("/apply-template", request | ({"tools": list(tools)} if tools else {}))
        return str(answer["prompt"])

    def _complete(self, ids: Sequence[int], request: Mapping[str, Any]) -> Any:
        defaults = {"prompt": list(ids), "cache_prompt": False, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
        return self.post("/completion", {**defaults, "temperature": 0.0, "repeat_penalty": 1.0, **request})
