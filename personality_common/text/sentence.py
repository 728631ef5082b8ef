"""Encoders of sentence-transformers, in a local folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from personality_common.contract import EMBEDDING_DIM, MINILM_DIM
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.files.atomic import file_sha256
from personality_common.files.bounded import read_bounded
from personality_common.text.bert import Bert
from personality_common.text.identity import EncoderIdentity, require_same_encoder

if TYPE_CHECKING:
    import torch

MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_JSON_BYTES: Final = 1 << 20


class SentenceModel(Protocol):
    """What computes a `SentenceEncoder`; its methods are described there."""

    @property
    def dim(self) -> int: ...

    @property
    def max_length(self) -> int: ...

    @property
    def pooling(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def encode_tokens(self, input_ids: NDArray[Any], attention_mask: NDArray[Any]) -> NDArray[np.float32]: ...

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]: ...


class SentenceEncoder:
    """A sentence-transformers model in a local folder."""

    def __init__(
        self,
        folder: Path,
        source: str,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        expected: EncoderIdentity | None = None,
    ) -> None:
        """Load the model.

        Args:
            folder: of a saved SentenceTransformer, with `modules.json`.
            source: what to call it to people.
            device: where it computes.
            dtype: of its weights and arithmetic; the embeddings are float32 whatever it is. None: float32
                on the CPU, and without PyTorch, which takes seconds to import, if the model allows it.
            expected: what it must be; its weights are compared before any of it is loaded.

        Raises:
            DataError: not such a folder, it has a module that is not sentence-transformers' own, or its
                files do not load.
            MismatchError: it is not what is expected; or its embeddings have a length that no personality
                model takes.
        """
        self.source = source
        self.compute_dtype = "float32" if dtype is None else str(dtype).removeprefix("torch.")
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
        self._model = _load(folder, device, dtype)
        if self._model.dim not in (MINILM_DIM, EMBEDDING_DIM):
            raise MismatchError(
                f"{folder}: base embeddings must have {MINILM_DIM} or {EMBEDDING_DIM} dimensions, "
                f"have {self._model.dim}"
            )
        self.identity = EncoderIdentity(
            name="all-MiniLM-L6-v2" if sha256 == MINILM_SHA256 else folder.resolve().name,
            revision="",
            weights_sha256=sha256,
            pooling=self._model.pooling,
            max_length=self._model.max_length,
            dim=self._model.dim,
        )
        if expected is not None:
            require_same_encoder(expected, self.identity, str(folder))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._model.encode(texts)

    def encode_tokens(self, input_ids: NDArray[Any], attention_mask: NDArray[Any]) -> NDArray[np.float32]:
        """Base embeddings of token ids: (N, T) integers, mask of 0 and 1 -> (N, dim), L2-normalized."""
        return self._model.encode_tokens(input_ids, attention_mask)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text with the special ones, cut off at `identity.max_length`, unpadded."""
        return self._model.token_ids(texts)

    @property
    def batches_freely(self) -> bool:
        """Whether a text gets the same bits whatever it is encoded with; see `Bert`."""
        return isinstance(self._model, Bert)


def _load(folder: Path, device: str, dtype: torch.dtype | None) -> SentenceModel:
    if dtype is None:
        with contextlib.suppress(ToolkitError):
            from personality_common.text.bert_numpy import NumpyBert

            return NumpyBert(folder)

        import torch

        device, dtype = "cpu", torch.float32
    try:
        return Bert(folder, device, dtype)
    except ToolkitError:
        # Here, since it takes ten seconds to import; it also says what is wrong with a folder.
        from personality_common.text.stock import StockModel

        return StockModel(folder, device, dtype)


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


def _weights_sha256(folder: Path) -> str:
    """Of the weights file; of the files' names and checksums where modules have one each."""
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise DataError(f"{folder}: must hold its weights as safetensors; has none")
    if len(files) == 1:
        return file_sha256(files[0])
    content = [(file.relative_to(folder).as_posix(), file_sha256(file)) for file in files]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
