"""Encoders of sentence-transformers, in a local folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.contract import EMBEDDING_DIM, MINILM_DIM
from personality_common.errors import DataError, MismatchError
from personality_common.files.atomic import file_sha256
from personality_common.files.bounded import read_bounded
from personality_common.text.identity import EncoderIdentity, require_same_encoder

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_JSON_BYTES: Final = 1 << 20
BATCH_CHARACTERS: Final = 6144
"""Characters in a batch, counting each text as long as the batch's longest: about 1500 tokens, which
fill two cores and stay in their caches, whether they are 20 texts of 51 words or 150 of 9."""


class SentenceEncoder:
    """A sentence-transformers model in a local folder."""

    def __init__(
        self,
        folder: Path,
        source: str,
        device: str,
        dtype: torch.dtype,
        expected: EncoderIdentity | None = None,
    ) -> None:
        """Load the model.

        Args:
            folder: of a saved SentenceTransformer, with `modules.json`.
            source: what to call it to people.
            device: where it computes.
            dtype: of its weights and arithmetic; the embeddings are float32 whatever it is.
            expected: what it must be; its weights are compared before any of it is loaded.

        Raises:
            DataError: not such a folder, it has a module that is not sentence-transformers' own, or its
                files do not load.
            MismatchError: it is not what is expected; or its embeddings have a length that no personality
                model takes.
        """
        self.source = source
        self.compute_dtype = str(dtype).removeprefix("torch.")
        self.folder = folder
        # oneDNN keeps what it compiled for each shape of a batch, and PyTorch keeps it once more, 1,024
        # entries each by default: after 20,000 texts, whose batches nearly all differ in shape, a run has
        # grown to 1.66 GiB. With 64 it stays at 0.93, and is no slower. Both are read at the first product.
        for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
            os.environ.setdefault(cache, "64")
        _require_own_modules(folder)
        sha256 = _weights_sha256(folder)
        if expected is not None and expected.weights_sha256 != sha256:
            raise MismatchError(
                f"{folder}: must have the weights with SHA-256 {expected.weights_sha256[:12]}…, has others "
                f"({sha256[:12]}…); nothing of it was loaded"
            )
        self._model = _load_sentence_transformer(folder, device, dtype)
        dim = int(self._model.get_embedding_dimension() or 0)
        if dim not in (MINILM_DIM, EMBEDDING_DIM):
            raise MismatchError(
                f"{folder}: base embeddings must have {MINILM_DIM} or {EMBEDDING_DIM} dimensions, have {dim}"
            )
        self.identity = EncoderIdentity(
            name="all-MiniLM-L6-v2" if sha256 == MINILM_SHA256 else folder.resolve().name,
            revision="",
            weights_sha256=sha256,
            pooling=_pooling(self._model),
            max_length=int(self._model.max_seq_length or 0),
            dim=dim,
        )
        if expected is not None:
            require_same_encoder(expected, self.identity, str(folder))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import torch

        embeddings = torch.empty(len(texts), self.identity.dim)
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
        """Base embeddings of token ids: (N, T) integers, mask of 0 and 1 -> (N, dim), L2-normalized."""
        import torch

        features = {"input_ids": input_ids, "attention_mask": attention_mask}
        tensors = {name: torch.from_numpy(np.array(value, np.int64)) for name, value in features.items()}
        with torch.inference_mode():
            embeddings = self._model({n: t.to(self._model.device) for n, t in tensors.items()})
        found = embeddings["sentence_embedding"].float()
        return torch.nn.functional.normalize(found, dim=-1).cpu().numpy()

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text with the special ones, cut off at `identity.max_length`, unpadded."""
        limit = self.identity.max_length
        ids = self._model.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        return [list(map(int, row)) for row in ids]


def _require_own_modules(folder: Path) -> None:
    """The names in `modules.json` are imported: none but sentence-transformers' own may be."""
    path = folder / "modules.json"
    if not path.is_file():
        raise DataError(f"{folder}: must be a saved SentenceTransformer; has no modules.json")
    try:
        kinds = [
            str(module["type"]) for module in json.loads(read_bounded(path, _JSON_BYTES, "modules.json"))
        ]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DataError(f"{path}: must be a list of modules with a type each; is not") from None
    if foreign := [kind for kind in kinds if not re.fullmatch(r"sentence_transformers(\.\w+)+", kind)]:
        raise DataError(f"{path}: modules must be sentence-transformers' own, got {foreign[0][:80]!r}")


def _load_sentence_transformer(folder: Path, device: str, dtype: torch.dtype) -> SentenceTransformer:
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
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{folder}: does not load as a SentenceTransformer: {first}") from error


def _weights_sha256(folder: Path) -> str:
    """Of the weights file; of the files' names and checksums where modules have one each."""
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise DataError(f"{folder}: must hold its weights as safetensors; has none")
    if len(files) == 1:
        return file_sha256(files[0])
    content = [(file.relative_to(folder).as_posix(), file_sha256(file)) for file in files]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _pooling(model: SentenceTransformer) -> str:
    parts: list[str] = []
    for module in model:
        config: Any = getattr(module, "pooling_mode", None)
        parts.append(f"{type(module).__name__}({config})" if config else type(module).__name__)
    return " > ".join(parts)
