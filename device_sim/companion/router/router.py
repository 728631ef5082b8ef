"""The router: coefficients that were fitted to the seed, and one matrix product a record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.contract import MINILM_DIM
from personality_common.text.identity import EncoderIdentity, require_same_encoder

from .flags import LABELS, NAMES, Label, flags

STORED: Final = Path(__file__).with_name("router.json")
FLAG_SCALE: Final = 0.6
"""Of the flags beside a unit embedding, which weighs more the smaller it is."""


@dataclass(frozen=True)
class Coefficients:
    """A multinomial logistic regression on the embedding and the flags.

    Attributes:
        encoder: whose embeddings it was fitted to.
        seed_sha256: of the records.
        flags: names, in the order of the columns behind the embedding.
        means: (len(flags),) of the seed.
        weights: (4, 384 + len(flags)), rows in the order of `LABELS`.
        bias: (4,).
        temperature: divides the logits; fitted to families that were held out.
        threshold: a record whose best probability is lower goes to both.
    """

    encoder: EncoderIdentity
    seed_sha256: str
    flags: tuple[str, ...]
    means: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    temperature: float
    threshold: float

    def as_json(self) -> dict[str, Any]:
        return {
            "encoder": asdict(self.encoder),
            "seed_sha256": self.seed_sha256,
            "flags": list(self.flags),
            "means": self.means.round(5).tolist(),
            "weights": self.weights.round(4).tolist(),
            "bias": self.bias.round(4).tolist(),
            "temperature": round(self.temperature, 4),
            "threshold": round(self.threshold, 4),
        }


@dataclass(frozen=True)
class Route:
    """Where a record goes.

    Attributes:
        label: `adapter`, `memory`, `both` or `neither`.
        scores: the calibrated probability of each label.
        abstained: no label was likely enough, and so `both`: what is kept twice can be taken out again.
    """

    label: Label
    scores: dict[str, float]
    abstained: bool


class Router:
    """Routes records by text and embedding. NumPy alone: scikit-learn is needed for fitting only."""

    def __init__(self, coefficients: Coefficients) -> None:
        self._fitted = coefficients

    @classmethod
    def open(cls, encoder: EncoderIdentity | None = None) -> Router:
        """The router that ships.

        Args:
            encoder: whose embeddings it will see; None where they are MiniLM's for sure.

        Raises:
            MismatchError: it was fitted to another encoder's embeddings.
        """
        stored = json.loads(STORED.read_text(encoding="utf-8"))
        fitted = Coefficients(
            encoder=EncoderIdentity(**stored["encoder"]),
            seed_sha256=stored["seed_sha256"],
            flags=tuple(stored["flags"]),
            means=np.array(stored["means"]),
            weights=np.array(stored["weights"]),
            bias=np.array(stored["bias"]),
            temperature=stored["temperature"],
            threshold=stored["threshold"],
        )
        assert fitted.flags == NAMES, "flags.py changed: python -m device_sim.companion.router"
        if encoder is not None:
            require_same_encoder(encoder, fitted.encoder, STORED.name)
        return cls(fitted)

    def route(self, text: str, embedding: NDArray[np.float32]) -> Route:
        """
        Args:
            text: of the record, as it is kept.
            embedding: (384,) its base embedding, L2-normalized.

        Raises:
            ValueError: another shape.
        """
        if embedding.shape != (MINILM_DIM,):
            raise ValueError(f"an embedding must have the shape ({MINILM_DIM},), has {embedding.shape}")
        fitted = self._fitted
        row = columns(embedding[None], flags(text)[None], fitted.means)
        probabilities = softmax((row @ fitted.weights.T + fitted.bias) / fitted.temperature)[0]
        best = int(probabilities.argmax())
        abstained = bool(probabilities[best] < fitted.threshold)
        scores = dict(zip(LABELS, map(float, probabilities), strict=True))
        return Route("both" if abstained else LABELS[best], scores, abstained)


def columns(
    embeddings: NDArray[np.float32], flag_rows: NDArray[np.float32], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, 384) embeddings and (N, F) flags -> (N, 384 + F) what the regression sees."""
    return np.hstack([embeddings.astype(np.float64), FLAG_SCALE * (flag_rows - means)])


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row-wise, of (N, 4)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result
