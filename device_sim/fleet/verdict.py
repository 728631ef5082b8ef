"""What must hold of a fleet, for each kind of user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch

from device_sim.fleet.lives import Lived
from device_sim.fleet.plan import Plan
from device_sim.users.users import NO_SIGNAL, UserConfig, parse_user
from personality_common.evidence.claims import Check, within
from personality_common.evidence.intervals import mean_interval

WORSE: Final = 0.05
"""Most of the devices of a kind that may be worse off."""
WITHIN: Final = 0.99
"""Least share of the devices that keep the budgets on the reference, every night."""
HARM: Final = 0.01
"""Most mean reward that users whose rewards say nothing may lose."""


def kind_checks(plan: Plan, lived: Sequence[Lived]) -> Iterator[Check]:
    """Mean gain, devices worse off, devices within the budgets: for each kind of user that is there."""
    for number, kind in enumerate(plan.kinds):
        members = [one for one in lived if one.kind == number]
        if members:
            yield from _checks(f"{number}", kind.user, members)


def is_control(user: str) -> bool:
    """Whether a user's rewards say nothing, so that whatever is learned of them is noise."""
    parsed = parse_user(user)
    return isinstance(parsed, UserConfig) and parsed.kind in NO_SIGNAL


def _checks(number: str, user: str, members: Sequence[Lived]) -> Iterator[Check]:
    gains = torch.tensor([one.gain for one in members], dtype=torch.float64)
    control = is_control(user)
    id, count = f"gain.{number}", len(members)
    found = mean_interval(gains) if count > 1 else None
    detail = f"{count:,} devices" + (f", 95%: {found.low:+.3f} to {found.high:+.3f}" if found else "")
    if control:
        yield within(
            id, f"{user}: mean gain did not fall", float(gains.mean()), ">=", -HARM,
            f"{detail}; rewards say nothing",
        )  # fmt: skip
    elif found is None or not bool((gains != 0).any()):
        yield Check(id, f"{user}: mean gain rose", "not judged", f"{detail}; too few, or no gate open yet")
    else:
        yield within(id, f"{user}: mean gain rose", found.low, ">", 0, f"low end over {detail}")
    worse = float((gains < 0).double().mean())
    yield within(f"worse.{number}", f"{user}: share of devices worse off", worse, "<=", WORSE)
    kept = sum(one.within for one in members) / count
    yield within(f"budgets.{number}", f"{user}: share of devices within the budgets", kept, ">=", WITHIN)
