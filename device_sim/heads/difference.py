"""What an update did to the head, in numbers and in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grpo.head import Head
from personality_common.errors import MismatchError


@dataclass(frozen=True)
class TokenChange:
    """A token's part: `bias` is how far its logit moved on every text alike, `weight` the norm of what
    changed in its row, which depends on the text."""

    token: str
    bias: float
    weight: float


@dataclass(frozen=True)
class HeadDifference:
    """From one head to another.

    Attributes:
        weight_norm, bias_norm: Euclidean norms of the change.
        relative: norm of the change over both tensors, over that of the first head.
        changed_weights, changed_biases: how many numbers differ.
        gained, lost: tokens by the change of their bias, the furthest first.
        turned: tokens by the change of their row, the furthest first.
    """

    weight_norm: float
    bias_norm: float
    relative: float
    changed_weights: int
    changed_biases: int
    gained: tuple[TokenChange, ...]
    lost: tuple[TokenChange, ...]
    turned: tuple[TokenChange, ...]


def difference(before: Head, after: Head, tokens: Sequence[str], limit: int = 8) -> HeadDifference:
    """Compare two heads of the same vocabulary.

    Args:
        tokens: (V,) in vocabulary order.
        limit: most tokens in each list; those that did not change are left out.

    Raises:
        MismatchError: shapes differ, or there is not a token for each row.
    """
    shapes = [tuple(h.weight.shape) for h in (before, after)]
    if shapes[0] != shapes[1] or shapes[0][0] != len(tokens):
        raise MismatchError(f"heads must have the same shape and {len(tokens)} rows, are {shapes}")
    weight = after.weight.double() - before.weight.double()
    bias = after.bias.double() - before.bias.double()
    rows = weight.norm(dim=1)
    changes = [TokenChange(token, float(b), float(w)) for token, b, w in zip(tokens, bias, rows, strict=True)]
    size = float((before.weight.double().square().sum() + before.bias.double().square().sum()).sqrt())
    by_bias = sorted(changes, key=lambda c: c.bias, reverse=True)
    by_weight = sorted(changes, key=lambda c: c.weight, reverse=True)
    return HeadDifference(
        weight_norm=float(weight.norm()),
        bias_norm=float(bias.norm()),
        relative=before.distance(after) / size if size else float(before.distance(after) > 0),
        changed_weights=int((before.weight != after.weight).sum()),
        changed_biases=int((before.bias != after.bias).sum()),
        gained=tuple(c for c in by_bias[:limit] if c.bias > 0),
        lost=tuple(c for c in reversed(by_bias[-limit:]) if c.bias < 0),
        turned=tuple(c for c in by_weight[:limit] if c.weight > 0),
    )
