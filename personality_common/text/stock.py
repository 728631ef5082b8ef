"""Any model of sentence-transformers, computed by that library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

BATCH_CHARACTERS: Final = 6144
"""Characters in a batch, counting each text as long as the batch's longest: about 1500 tokens, which
fill two cores and stay in their caches, whether they are 20 texts of 51 words or 150 of 9."""


class StockModel:
    """A saved SentenceTransformer. What a text gets depends on its batch in the last bits."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        """Raises DataError: its files do not load."""
        self._model = _load_sentence_transformer(folder, device, dtype)
        self.pooling = _pooling(self._model)
        self.max_length = int(self._model.max_seq_length or 0)
        self.dim = int(self._model.get_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import torch

        embeddings = torch.empty(len(texts), self.dim)
        waiting = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        while waiting:
            size = max(1, BATCH_CHARACTERS // (len(texts[waiting[-1]]) + 1))
            waiting, batch = waiting[:-size], waiting[-size:]
            embeddings[batch] = self._model.encode(
                [texts[i] for i in batch],
                batch_size=len(batch),
                convert_to_tensor=True,
                show_progress_bar=False,
            ).to("cpu", torch.float32)
        return torch.nn.functional.normalize(embeddings, dim=-1).numpy()

    def encode_tokens(self, input_ids: NDArray[Any], attention_mask: NDArray[Any]) -> NDArray[np.float32]:
        import torch

        features = {"input_ids": input_ids, "attention_mask": attention_mask}
        tensors = {name: torch.from_numpy(np.array(value, np.int64)) for name, value in features.items()}
        with torch.inference_mode():
            embeddings = self._model({n: t.to(self._model.device) for n, t in tensors.items()})
        found = embeddings["sentence_embedding"].float()
        return torch.nn.functional.normalize(found, dim=-1).cpu().numpy()

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        ids = self._model.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
        return [list(map(int, row)) for row in ids]


def _load_sentence_transformer(folder: Path, device: str, dtype: torch.dtype) -> SentenceTransformer:
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            # Written-out attention: on a CPU, and at these lengths, PyTorch's fused kernel is slower.
            model_kwargs={"dtype": dtype, "use_safetensors": True, "attn_implementation": "eager"},
        )
    except (ValueError, OSError, KeyError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{folder}: does not load as a SentenceTransformer: {first}") from error


def _pooling(model: SentenceTransformer) -> str:
    parts: list[str] = []
    for module in model:
        config: Any = getattr(module, "pooling_mode", None)
        parts.append(f"{type(module).__name__}({config})" if config else type(module).__name__)
    return " > ".join(parts)
