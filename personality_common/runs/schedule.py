"""Learning rates by step."""

from __future__ import annotations

import math

from personality_common.runs.optimizers import Optimizer


def cosine(step: int, steps: int, first: float, last: float) -> float:
    """From `first` at step 0 down to `last` at the last of `steps` (arXiv:1608.03983, one cycle)."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / max(steps - 1, 1)))


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Of all its parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Up to `peak` over the first three tenths of the steps, then down to almost 0 (arXiv:1708.07120)."""
    rise = round(0.3 * steps)
    if step < rise:
        return cosine(step, rise + 1, peak / 25, peak)
    return cosine(step - rise, steps - rise, peak, peak * 1e-5)
