"""What makes an encoder that encoder, and what every encoder does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import MismatchError


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
