"""Which texts are held out for validation."""

from __future__ import annotations

import hashlib


def is_validation(text: str, fraction: float) -> bool:
    """Whether a text is held out: decided by the text alone.

    So the split survives reordering, growing or resuming the data, two equal texts never fall on
    different sides, and what a fraction holds out, a larger one holds out too. The share is
    binomial: 5% of N distinct texts is 0.05 N within a few sqrt(0.05 * 0.95 * N).

    The first 8 bytes of the SHA-256 of the UTF-8 text, as a big-endian integer, are below
    ``fraction * 2**64``.

    Args:
        text: as the reader yields it (stripped).
        fraction: share to hold out, 0 to 1.

    Raises:
        ValueError: the fraction is not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"the validation fraction must be between 0 and 1, got {fraction}")
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
