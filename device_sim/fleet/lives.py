"""Lives of devices, one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import torch
from torch import Tensor

from device_sim.heads.shipped import head_fingerprint
from device_sim.simulate.config import HELD_OUT_TEXTS
from device_sim.simulate.drift import drift_of
from device_sim.users.nights import Life, NightsConfig, Texts
from device_sim.users.users import User
from grpo.config import GRPOConfig
from grpo.exact import one_thread
from grpo.head import Head, top_tokens
from grpo.learners import Learner

BATCH: Final = 16
"""Heads in one product. More would not be faster: their logits no longer fit into a core's cache."""
WEEK: Final = 7
"""Nights between measurements on held-out texts; the last night is always one."""
GLANCE: Final = 100
"""Held-out texts that are measured on night by night; after the last night, all of them are besides."""
TRACES: Final = ("overlap", "kl", "stopped", "scaled", "dropped", "silent")
"""What is kept of every night: what the head has spent of the budgets on the reference; then, 1 or 0, whether
the update was cut short by `kl_stop`, scaled back by a budget, dropped by a budget, or had nothing to learn
from or a closed gate before it."""


@dataclass(frozen=True)
class Device:
    """A phone on its first day.

    Attributes:
        number: from 0.
        seed: of its texts, its user's taste and noise, and its draws.
        kind: of its user, a number in the plan's mix.
    """

    number: int
    seed: int
    kind: int
    user: User = field(repr=False)
    training: Texts = field(repr=False)
    held_out: Texts = field(repr=False)


@dataclass(frozen=True)
class Lived:
    """A phone after its last night. Rewards are of the head's top 8 on held-out texts, without noise.

    Attributes:
        head: fingerprint, as `pt simulate` gives it.
        reward: mean over held-out texts.
        gain: mean over held-out texts of the reward minus that of the head that shipped.
        oracle_gain: the most that any head could gain; None where there is no oracle.
        gains: of the nights that `measured_nights` names, on the first GLANCE texts.
        kl, overlap: drift from the shipped head on held-out texts, as `pt simulate` measures it.
        stopped, scaled, dropped, silent: how many nights of each; see TRACES.
        within: whether the head of every night kept the budgets on the reference.
    """

    device: int
    seed: int
    kind: int
    head: str
    reward: float
    gain: float
    oracle_gain: float | None
    gains: tuple[float, ...]
    kl: float
    overlap: float
    stopped: int
    scaled: int
    dropped: int
    silent: int
    within: bool = True


@dataclass
class Traces:
    """Sums over devices, by kind and night.

    Attributes:
        devices: (kinds,) how many.
        sums: name in TRACES -> (kinds, nights).
    """

    devices: list[int]
    sums: dict[str, list[list[float]]]

    @classmethod
    def empty(cls, kinds: int, nights: int) -> Traces:
        return cls([0] * kinds, {name: [[0.0] * nights for _ in range(kinds)] for name in TRACES})

    def add(self, other: Traces) -> None:
        self.devices = [a + b for a, b in zip(self.devices, other.devices, strict=True)]
        for name, rows in self.sums.items():
            for row, theirs in zip(rows, other.sums[name], strict=True):
                row[:] = [a + b for a, b in zip(row, theirs, strict=True)]

    def document(self) -> dict[str, Any]:
        return asdict(self)


def measured_nights(nights: int) -> tuple[int, ...]:
    """From 0."""
    return tuple(night for night in range(nights) if (night + 1) % WEEK == 0 or night == nights - 1)


def live_together(
    devices: Sequence[Device], learner: Learner, nights: NightsConfig, kinds: int
) -> tuple[list[Lived], Traces]:
    """The lives of some devices; each is what it would be if it lived alone, to the last bit of its head.

    Args:
        nights: its seed is not read; devices have their own.
        kinds: in the mix.
    """
    lived = []
    traces = torch.zeros(len(TRACES), len(devices), nights.nights, dtype=torch.float64)
    with one_thread(), torch.inference_mode():
        for i, device in enumerate(devices):
            found, traces[:, i] = _live(device, learner, replace(nights, seed=device.seed))
            lived.append(found)
    summed = Traces.empty(kinds, nights.nights)
    for i, device in enumerate(devices):
        summed.devices[device.kind] += 1
        for name, values in zip(TRACES, traces[:, i].tolist(), strict=True):
            row = summed.sums[name][device.kind]
            row[:] = [a + b for a, b in zip(row, values, strict=True)]
    return lived, summed


def _live(device: Device, learner: Learner, nights: NightsConfig) -> tuple[Lived, Tensor]:
    """One device, with its traces (len(TRACES), nights)."""
    reference, kept = learner.reference, learner.start()
    life = Life(
        device.user,
        device.training,
        reference.shipped,
        learner.config,
        nights,
        with_behaviour=learner.reads_behaviour,
    )
    glances = _HeldOut(device.user, device.held_out[:GLANCE], reference.shipped)
    gains, rows, within = [], [], True
    for night in range(nights.nights):
        latents, groups = life.day(night)
        kept, moved = learner.move(latents, groups, kept, life.shipped_logits)
        life.head = kept.head
        spent, share = moved.spent, moved.share
        within &= reference.within(spent)
        silent = not (moved.gate.open and moved.learnable)
        stopped = any(reason.startswith("stopped after") for reason in moved.reasons)
        rows.append((spent.overlap, spent.kl, stopped, 0 < share < 1, share == 0, silent))
        if night in measured_nights(nights.nights)[:-1]:
            gains.append(float(glances.gain(life.head, night)[1].mean()))
    traces = torch.tensor(rows, dtype=torch.float64).T
    counts = traces[2:].sum(-1).tolist()
    last = nights.nights - 1
    return _lived(device, reference.shipped, life.head, learner.config, last, gains, counts, within), traces


class _HeldOut:
    """Texts that a device is measured on, with all that is the same whatever its head."""

    def __init__(self, user: User, texts: Texts, shipped: Head) -> None:
        self.user, self.texts, self._shipped = user, texts, shipped
        self._products = shipped.products(texts.latents)
        self.reference = self._products + shipped.bias
        self._top = top_tokens(self.reference)
        self._relevance = user.relevance(texts.embeddings)

    def gain(self, head: Head, night: int) -> tuple[float, Tensor, Tensor]:
        """Mean reward of the shipped head's top 8, how much more this head's has, (N,), and its logits."""
        by_bias = head.weight is self._shipped.weight
        products = self._products if by_bias else head.products(self.texts.latents)
        logits = products + head.bias
        both = torch.stack([self._top, top_tokens(logits)], 1)
        rewards = self.user.value(self.texts.embeddings, both, night, self._relevance).double()
        return float(rewards[:, 0].mean()), rewards[:, 1] - rewards[:, 0], logits

    def oracle(self, night: int) -> float:
        """Mean of the most that 8 tokens can be worth."""
        return float(self.user.oracle(self.texts.embeddings, night, self._relevance).double().mean())


def _lived(
    device: Device,
    shipped: Head,
    head: Head,
    config: GRPOConfig,
    last: int,
    gains: Sequence[float],
    counts: Sequence[float],
    within: bool,
) -> Lived:
    """After the last night; `gains` are of the measured nights before it."""
    held_out = _HeldOut(device.user, device.held_out[:HELD_OUT_TEXTS], shipped)
    before, rises, logits = held_out.gain(head, last)
    gain = float(rises.mean())
    most = held_out.oracle(last) - before
    drift = drift_of(logits, held_out.reference, config)
    stopped, scaled, dropped, silent = map(int, counts)
    return Lived(
        device.number, device.seed, device.kind, head_fingerprint(head), before + gain, gain,
        most if math.isfinite(most) else None, (*gains, float(rises[:GLANCE].mean())),
        drift.kl, drift.overlap,
        stopped, scaled, dropped,
        silent, within,
    )  # fmt: skip
