"""What must hold at the end of a simulation, a check each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from device_sim.routes.verify import RouteCheck
from device_sim.simulate.drift import Drift
from device_sim.simulate.phone import Delivery
from device_sim.users.nights import Night
from grpo.config import GRPOConfig
from grpo.gate import GateReading
from grpo.head import Head, top_overlap
from grpo.reference import CONFIDENCE, Spent
from personality_common.evidence.claims import Check, claim, within
from personality_common.evidence.intervals import mean_interval
from pretrain.personality.rules.tolerances import TOLERANCES

HARM: Final = 0.01
"""Most reward that a user whose rewards say nothing may lose, in the mean."""
CHANCE: Final = 0.05
"""Most of such users' heads that may move."""


def head_changed(
    shipped: Head, head: Head, gate: GateReading | None, lives: Sequence[Night], control: bool
) -> Check:
    """A user's head moved once the gate was open; rewards that say nothing leave it as it was.

    Args:
        gate: after the last night.
        lives: last nights of all lives.
        control: whether the rewards say nothing.
    """
    count, total = head.changed(shipped), sum(tensor.numel() for tensor in shipped)
    if control:
        moved = sum(bool(life.head.changed(shipped)) for life in lives)
        most = math.ceil(CHANCE * len(lives)) if len(lives) > 1 else 0
        detail = f"of {len(lives)}, as rewards say nothing"
        return within("head-unchanged", "heads that moved by chance", moved, "<=", most, detail)
    if gate is not None and not gate.open:
        return Check("head-changed", "head changed", "not judged", f"gate: {gate}")
    detail = f"of {total:,}, moved by {head.distance(shipped):.3g} in Euclidean norm"
    return within("head-changed", "head changed", count, ">", 0, detail, unit="numbers")


def frozen_identical(deliveries: Sequence[Delivery]) -> Check:
    """Of every copy, after every night."""
    found = [i for delivery in deliveries for i in delivery.integrity.values()]
    found = [i for i in found if i.frozen]
    id, name = "frozen-identical", "frozen tensors bit-identical"
    if not found:
        return Check(id, name, "not judged", "the package has the head and nothing else")
    changed = sorted({name for i in found for name in i.changed_tensors})
    detail = (
        f"{_or_range(i.frozen for i in found)} tensors, {_or_range(i.frozen_bytes for i in found)} bytes,"
        f" in {len(found)} {_plural('copy', len(found))}"
    )
    if changed:
        detail = f"changed: {', '.join(changed[:5])}"
    return within(id, name, len(changed), "<=", 0, detail, unit="tensors")


def bytes_identical(deliveries: Sequence[Delivery]) -> Check:
    found = [i for delivery in deliveries for i in delivery.integrity.values()]
    differing = sum(i.changed_bytes for i in found)
    detail = f"{_or_range(i.other_bytes for i in found)} bytes, in {len(found)} {_plural('copy', len(found))}"
    if differing:
        where = [place for i in found for place in i.where]
        detail = f"they differ: {'; '.join(where[:3])}"
    name = "every other byte of the package identical"
    compared = differing if all(i.other_bytes for i in found) else None
    return within("bytes-identical", name, compared, "<=", 0, detail, unit="bytes")


def worst_checks(deliveries: Sequence[Delivery]) -> tuple[RouteCheck, ...]:
    """Each route's worst night: one that failed, else the one with the greatest error."""
    nights = zip(*(delivery.checks for delivery in deliveries), strict=True)
    return tuple(
        max(checks, key=lambda check: (not check.passed, check.error, check.logits_error))
        for checks in nights
    )


def routes_agree(deliveries: Sequence[Delivery]) -> Check:
    """Each with what it must hold, after every night."""
    checks = worst_checks(deliveries)
    wrong = [check for check in checks if not check.passed]
    return claim(
        "routes-agree",
        "routes agree with PyTorch's head" if len(checks) == 1 else "routes agree",
        bool(checks) and not wrong,
        "; ".join(f"{check.route}: {check.reason or _agreement(check)}" for check in wrong or checks),
    )


def runtimes_agree(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], names: str, precision: str
) -> Check:
    """Logits (N, 325) of the updated package in two runtimes, within the tolerances of its precision."""
    limits = {t.name: t for t in TOLERANCES}
    logits, top8 = limits[f"{precision}.logits"], limits[f"{precision}.top8"]
    worst = float(np.abs(ours.astype(np.float64) - theirs).max())
    overlap = float(top_overlap(torch.from_numpy(ours), torch.from_numpy(theirs)).mean())
    detail = f"worst of {len(ours)} texts' logits; top 8 overlap {overlap:.4f} (limit {top8.value:g})"
    check = within("runtimes-agree", f"runtimes agree ({names})", worst, logits.bound, logits.value, detail)
    return check if top8.holds(overlap) else replace(check, status="failed")


def reward_rose(
    night: Night | None, gate: GateReading | None, lives: Sequence[Night], control: bool
) -> Check:
    """On texts that were never trained on, against the head that shipped.

    The figure is the low end of a 95% interval: over the texts of the phone's head, or, of several lives,
    over the lives, which differ far more than texts do. A user whose rewards say nothing must not come off
    worse than HARM, in the mean over the lives.
    """
    id, name = "reward-rose", "reward on held-out texts rose"
    if night is None:
        return Check(id, name, "not judged", "a feedback file has nobody to ask")
    rises = torch.tensor([life.rise for life in lives], dtype=torch.float64)
    if control:
        return within(
            "reward-kept", "reward on held-out texts did not fall", float(rises.mean()), ">=", -HARM,
            f"mean over {len(rises)} {'life' if len(rises) == 1 else 'lives'}; rewards say nothing",
        )  # fmt: skip
    if gate is not None and not gate.open:
        return Check(id, name, "not judged", f"gate: {gate}")
    if len(rises) > 1:
        found = mean_interval(rises)
        interval = f"95%: {found.low:+.3f} to {found.high:+.3f}"
        detail = f"low end of {found.mean:+.3f} over {len(rises)} lives ({interval})"
        return within(id, name, found.low, ">", 0, detail)
    share = "" if night.oracle_share is None else f", {night.oracle_share:.0%} of what the best head gains"
    detail = f"low end of {night.rise:+.3f} (95%: {night.low:+.3f} to {night.high:+.3f}) of this head{share}"
    return within(id, name, night.low, ">", 0, detail)


def drift_within(nights: Sequence[Spent], drift: Drift, config: GRPOConfig, enforced: bool = True) -> Check:
    """Every night's head, moved or not, kept the budgets on the reference: that on the overlap by 1.64
    standard errors.

    Args:
        nights: what each night's head has spent.
        drift: of the last head, on held-out texts, for comparison.
        enforced: whether the update was held to the budgets, or is only judged by them.
    """
    least = min(night.overlap - CONFIDENCE * night.error for night in nights)
    most = max(night.kl for night in nights)
    holds = config.kl_budget is None or most <= config.kl_budget
    holds &= config.overlap_budget is None or least >= config.overlap_budget
    kl, overlap = (
        "no budget" if budget is None else f"budget {budget:g}"
        for budget in (config.kl_budget, config.overlap_budget)
    )
    return claim(
        "drift-within-budget", "drift within budget", holds,
        f"top 8 in common with the shipped head {least:.3f} or more on the reference, 95% sure ({overlap}),"
        f" {drift.overlap:.3f} ± {drift.overlap_half:.3f} on held-out texts; KL {most:.3f} ({kl}), there"
        f" {drift.kl:.3f}" + ("" if enforced else "; nothing holds one-hot targets to it"),
    )  # fmt: skip


def _agreement(check: RouteCheck) -> str:
    if check.route == "patch":
        return "bit-identical"
    if check.route == "state":
        return "float16, correctly rounded"
    return f"within {check.error:.1e} relative"


def _or_range(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else "copies"
