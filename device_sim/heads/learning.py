"""What a learner keeps beside a head, as a file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from grpo.evidence import Evidence
from grpo.gate import STAKES, Wealth
from grpo.head import Head
from grpo.learner import Learned, Prior
from grpo.learners import Kept
from grpo.reference import KINDS
from personality_common.errors import DataError
from personality_common.files.tensors import load_tensors, save_tensors

SCHEMA: Final = 2
"""Files of schema 1, which name none, have no `of_texts`: the texts of their nights count as like none."""
_PARTS: Final = ("before", "since")
_SUMS: Final = ("products", "moments", "of_texts")


class _LaterError(Exception):
    """A file of a later schema."""


class LearnedHead(Head):
    """A head, with all that the next night needs."""

    kept: Kept

    @classmethod
    def of(cls, kept: Kept) -> LearnedHead:
        head = cls(*kept.head)
        head.kept = kept
        return head


def write_learning(path: Path, kept: Kept) -> None:
    """Write state, evidence, prior and gate; the head itself is in a file of its own."""
    learned = kept.learned
    tensors = {"state.weight": kept.state.weight, "state.bias": kept.state.bias}
    for name, evidence in zip(_PARTS, (learned.before, learned.since), strict=True):
        # Copies: two that have seen no night are one, and safetensors takes no tensor twice.
        tensors |= {f"{name}.{sums}": getattr(evidence, sums).clone() for sums in _SUMS}
    numbers = {
        "schema": SCHEMA,
        "contrasts": [learned.before.contrasts, learned.since.contrasts],
        "log_likelihood": learned.log_likelihood,
        "wealth": list(learned.wealth.logs),
        "peak": learned.wealth.peak,
        "prior": list(learned.prior),
    }
    save_tensors(path, tensors, {"learned": json.dumps(numbers)})


def read_learning(path: Path, head: Head) -> Kept:
    """Read what `write_learning` wrote, exactly.

    Raises:
        DataError: damaged, not finite, of a later schema, or not of this head's shape.
    """
    tensors, metadata = load_tensors(path)
    vocabulary, width = head.weight.shape
    try:
        numbers = {"schema": 1} | json.loads(metadata["learned"])
        if (schema := numbers["schema"]) not in (1, SCHEMA):
            raise _LaterError
        state = Head(tensors["state.weight"], tensors["state.bias"])
        state.check(torch.zeros(1, width))
        counts = [int(count) for count in numbers["contrasts"]]
        parts = [
            _evidence(_sums(tensors, name, vocabulary, schema), count, vocabulary)
            for name, count in zip(_PARTS, counts, strict=True)
        ]
        likelihood = None if numbers["log_likelihood"] is None else float(numbers["log_likelihood"])
        logs, peak = tuple(map(float, numbers["wealth"])), float(numbers["peak"])
        width, topical, asked = numbers["prior"]
        prior = Prior(float(width), bool(topical), int(asked))
        given = (*logs, peak, likelihood or 0.0, prior.width)
        if state.weight.shape != head.weight.shape or len(logs) != len(STAKES):
            raise ValueError("shapes")
        if not all(map(math.isfinite, given)) or min(*counts, prior.width, prior.contrasts) < 0:
            raise ValueError("numbers that cannot be")
    except _LaterError:
        line = f"{path}: schema must be 1 or {SCHEMA}, is {str(schema)[:80]}; a later version wrote it"
        raise DataError(line) from None
    except (DataError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: must be what a learner keeps, lacks or garbles {str(error)[:80]}") from None
    return Kept(head, state, Learned(parts[0], parts[1], likelihood, Wealth(logs, peak), prior))


def _sums(tensors: dict[str, Tensor], name: str, vocabulary: int, schema: int) -> tuple[Tensor, ...]:
    """Of a part, copied: BLAS may sum a tensor in another order where it starts anywhere in a file."""
    if schema == 1:
        of_texts = torch.zeros(KINDS, vocabulary + 2 + KINDS, dtype=torch.float64)
        tensors = tensors | {f"{name}.of_texts": of_texts}
    return tuple(tensors[f"{name}.{sums}"].clone() for sums in _SUMS)


def _evidence(sums: tuple[Tensor, ...], contrasts: int, vocabulary: int) -> Evidence:
    (products, moments, of_texts), size = sums, vocabulary + 2
    if products.shape != (size, size) or moments.ndim != 2 or len(moments) != vocabulary:
        raise ValueError("evidence of another vocabulary")
    if of_texts.ndim != 2 or of_texts.shape[1] != size + len(of_texts):
        raise ValueError("evidence of other texts")
    for tensor in (products, moments, of_texts):
        if tensor.dtype != torch.float64 or not bool(tensor.isfinite().all()):
            raise ValueError("evidence that is not finite float64")
    return Evidence(products, contrasts, moments, of_texts)
