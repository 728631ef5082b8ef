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
from device_sim.simulate.drift import Drift, TokenShift
from device_sim.simulate.phone import Delivery
from device_sim.users.nights import Night
from device_sim.users.users import UserConfig
from grpo.config import GRPOConfig
from grpo.head import Head, top_overlap
from grpo.metrics import NightMetrics
from personality_common.contract import TOP_K
from personality_common.evidence.claims import Check, claim, within
from personality_common.evidence.intervals import Z95
from pretrain.personality.rules.tolerances import TOLERANCES

HELD_OUT_SLACK: Final = 0.1
"""How much further than its budget the drift may be on texts that no update was measured on: off the
overlap, and as a share of the KL. 0.035 was measured on real texts, 50 a night."""


def head_changed(shipped: Head, head: Head) -> Check:
    count, total = head.changed(shipped), sum(tensor.numel() for tensor in shipped)
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


def reward_rose(night: Night | None, user: UserConfig | None, shifts: Sequence[TokenShift]) -> Check:
    """On texts that were never trained on, against the head that shipped, with a 95% interval over texts:
    its low end is the figure.

    For the user `random`, the negative control, it is the other way round: rewards without signal must teach
    nothing. The interval over texts is too narrow for that, since a head that moved by chance moved for all
    texts alike. A taste that the update knows nothing of values it at N(change of relevance, s^2), with
    s = strength * norm of the tokens' changes of share / 8: the check fails if the rise is beyond 1.96
    of both deviations together.

    Args:
        user: simulated; None for one's own function.
        shifts: of tokens, on the same texts.
    """
    id, name = "reward-rose", "reward on held-out texts rose"
    if night is None:
        return Check(id, name, "not judged", "a feedback file has nobody to ask")
    if user is not None and user.kind == "random":
        by_chance = user.strength * math.sqrt(sum((s.after - s.before) ** 2 for s in shifts)) / TOP_K
        noise = math.hypot(Z95 * by_chance, (night.high - night.low) / 2)
        return within(
            "reward-within-noise", "reward on held-out texts did not rise beyond noise",
            night.rise, "<=", noise, "what chance gives, as rewards say nothing",
        )  # fmt: skip
    share = "" if night.oracle_share is None else f", {night.oracle_share:.0%} of what the best head gains"
    detail = f"low end of {night.rise:+.3f} (95%: {night.low:+.3f} to {night.high:+.3f}){share}"
    return within(id, name, night.low, ">", 0, detail)


def drift_within(
    nights: Sequence[NightMetrics], drift: Drift, config: GRPOConfig, enforced: bool = True
) -> Check:
    """Every update that moved the head kept the budgets, and the last head is near them elsewhere.

    An update is measured on its night's own texts and takes the longest step that fits them, so on other
    texts it goes a little further: HELD_OUT_SLACK is for that, and the 95% interval for chance.

    Args:
        enforced: whether the update was held to the budgets, or is only judged by them.
    """
    moved = [night for night in nights if night.changed_weights]
    least = min((night.overlap_shipped for night in moved), default=1.0)
    most = max((night.kl_shipped for night in moved), default=0.0)
    holds = True
    if config.kl_budget is not None:
        holds &= most <= config.kl_budget
        holds &= drift.kl - drift.kl_half <= config.kl_budget * (1 + HELD_OUT_SLACK)
    if config.overlap_budget is not None:
        holds &= least >= config.overlap_budget
        holds &= drift.overlap + drift.overlap_half >= config.overlap_budget - HELD_OUT_SLACK
    kl, overlap = (
        "no budget" if budget is None else f"budget {budget:g}"
        for budget in (config.kl_budget, config.overlap_budget)
    )
    return claim(
        "drift-within-budget", "drift within budget", holds,
        f"top 8 in common with the shipped head {least:.3f} after the worst update ({overlap}), now"
        f" {drift.overlap:.3f} ± {drift.overlap_half:.3f}; KL {most:.3f} ({kl}), now {drift.kl:.3f}"
        + ("" if enforced else "; measured only: nothing holds one-hot targets to a budget"),
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
