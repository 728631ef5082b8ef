"""Some devices of a fleet, lived again alone by the code of `pt simulate`: their heads must be the same."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sim.fleet.lives import Lived
from device_sim.fleet.plan import Plan
from device_sim.fleet.tables import Tables, rows_of
from device_sim.heads.shipped import PART, head_fingerprint, shipped_reference
from device_sim.runtimes.opening import open_runtime
from device_sim.simulate.texts import Chosen, Embedder, latents_of
from device_sim.users.nights import NightsConfig, live, remembering
from device_sim.users.users import make_user
from grpo.config import GRPOConfig
from grpo.learners import default_learner, make_learner
from personality_common.bundle.bundle import VerifiedBundle
from personality_common.errors import MismatchError
from personality_common.evidence.claims import Check, within
from personality_common.terminal.progress import Reporter

DEVICES: Final = 3
"""Lived again: the first, and others that are drawn."""
TEXTS: Final = 32
"""Of the first device, drawn, and embedded again."""


@dataclass(frozen=True)
class Proof:
    """Devices whose heads `pt simulate` gave the same bits."""

    devices: tuple[int, ...]

    @property
    def check(self) -> Check:
        """There is a proof only where the heads were the same."""
        detail = f"lived again alone: devices {', '.join(map(str, self.devices))}"
        name = "a device has the head that pt simulate gives it, bit for bit"
        return within("heads-identical", name, 0, "<=", 0, detail, unit="devices")


def prove(
    plan: Plan,
    bundle: VerifiedBundle,
    available: Chosen,
    embedder: Embedder,
    texts: Sequence[str],
    lived: Sequence[Lived],
    reporter: Reporter,
) -> Proof:
    """Live some devices again.

    Args:
        texts: all of them, in the order of the tables' rows.

    Raises:
        MismatchError: a head, or what a text was embedded to, differs.
    """
    drawn = np.random.default_rng(plan.nights.seed)
    others = drawn.permutation(np.arange(1, plan.devices))[: DEVICES - 1]
    chosen = (0, *sorted(others.tolist()))
    tables, reference = Tables(plan), shipped_reference(bundle, plan.grpo)
    shipped = reference.shipped
    needed = rows_of(plan, available, 0)
    _require_embeddings(bundle, embedder, tables, texts, drawn.permutation(np.concatenate(needed))[:TEXTS])
    with reporter.stage("proving", len(chosen), "devices") as stage:
        for device in chosen:
            training, held_out = (tables.texts(rows) for rows in rows_of(plan, available, device))
            described = plan.kinds[plan.kind_of[device]].user
            user = make_user(described, tables.tokens, training.embeddings, plan.seed(device))
            nights = dataclasses.replace(plan.nights, seed=plan.seed(device))
            learner = remembering(make_learner(plan.learner, reference))
            last = live(user, training, held_out, shipped, plan.grpo, nights, learner)[-1]
            alone = head_fingerprint(last.head)
            if alone != lived[device].head:
                raise MismatchError(
                    f"device {device} must have the head that pt simulate gives it, {alone}, and has"
                    f" {lived[device].head} in the fleet; {simulate_command(plan, device)}"
                )
            stage.advance(1)
    return Proof(chosen)


def _require_embeddings(
    bundle: VerifiedBundle,
    embedder: Embedder,
    tables: Tables,
    texts: Sequence[str],
    rows: NDArray[np.int64],
) -> None:
    """Texts embedded again, here and in this company, are what the workers made of them."""
    base, embeddings = embedder.embed([texts[i] for i in rows])
    runtime = open_runtime("mil", bundle.package(PART), bundle.places(PART))
    theirs = tables.texts(rows)
    for ours, found in ((base, theirs.embeddings), (latents_of(runtime, embeddings), theirs.latents)):
        if ours.tobytes() != found.numpy().tobytes():
            raise MismatchError(
                "a text must have one embedding wherever it is computed, and the workers made another; run"
                " all workers on one kind of machine, in a new folder"
            )


def simulate_command(plan: Plan, device: int) -> str:
    """The command that lives a device's life on the package itself."""
    words = ["pt", "simulate", str(plan.bundle), "--data", plan.data]
    if plan.run is not None:
        words += ["--run", str(plan.run)]
    words += ["--user", plan.kinds[plan.kind_of[device]].user]
    if plan.learner != default_learner(plan.grpo):
        words += ["--learner", plan.learner]
    nights = dataclasses.replace(plan.nights, seed=plan.seed(device))
    for config, plain, always in (
        (nights, NightsConfig(), ("nights", "interactions", "seed")),
        (plan.grpo, GRPOConfig(), ()),
    ):
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if field.name in always or value != getattr(plain, field.name):
                words += [f"--{field.name.replace('_', '-')}", "none" if value is None else str(value)]
    return shlex.join(words)
