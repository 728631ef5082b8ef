"""Kinds of users, and which device has which."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

import torch

from device_sim.users.users import parse_user
from personality_common.errors import ConfigError

_NEXT: Final = re.compile(r"\+(?=[^+*]*\*)")
"""A plus sign between kinds: what follows has a weight. `noise=1e+0` has none."""


@dataclass(frozen=True)
class Kind:
    """Users of one sort.

    Attributes:
        user: as for `pt simulate --user`.
        share: of the devices; those of a mix sum to 1.
    """

    user: str
    share: float


def parse_mix(text: str) -> tuple[Kind, ...]:
    """`profile`, or weighted: `0.6*profile+0.3*thumbs:answers=0.3+0.1*random`; weights need not sum to 1.

    Raises:
        ConfigError: no such user, a weight that is not positive, a user twice, or weights without users.
    """
    parts = _NEXT.split(text) if "*" in text else [f"1*{text}"]
    found: dict[str, float] = {}
    for part in parts:
        weight, star, user = (piece.strip() for piece in part.partition("*"))
        try:
            value = float(weight)
        except ValueError:
            value = math.nan
        if not star or not (0 < value < math.inf):
            raise ConfigError(
                f"a mix of users must be WEIGHT*USER+WEIGHT*USER…, weights positive, got {part!r} in {text!r}"
            )
        parse_user(user)
        if user in found:
            raise ConfigError(f"a mix of users must name each user once, got {user} twice in {text!r}")
        found[user] = value
    total = sum(found.values())
    return tuple(Kind(user, value / total) for user, value in found.items())


def assign(kinds: tuple[Kind, ...], devices: int, seed: int) -> list[int]:
    """The kind of each device: as many of each as its share says, to the next whole one, in a drawn order."""
    exact = [kind.share * devices for kind in kinds]
    counts = [math.floor(value) for value in exact]
    by_rest = sorted(range(len(kinds)), key=lambda i: counts[i] - exact[i])
    for i in by_rest[: devices - sum(counts)]:
        counts[i] += 1
    one_by_one = torch.repeat_interleave(torch.arange(len(kinds)), torch.tensor(counts))
    # Not the stream that the device with this seed draws its texts from.
    order = torch.randperm(devices, generator=torch.Generator().manual_seed(seed ^ 0xF1EE7))
    kind_of: list[int] = one_by_one[order].tolist()
    return kind_of
