"""What a night costs a phone: counted from the steps of docs/on-the-device.md and the sizes of the bundle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from device_sim.routes.choosing import make_route
from device_sim.simulate.lives import NightRecord
from device_sim.simulate.simulation import Simulation
from grpo.learners import LearnerName
from grpo.posterior import WIDTHS
from grpo.reference import KINDS
from personality_common.bundle.manifest import PackageEntry
from personality_common.contract import HEAD_PARAMETERS, LATENT_DIM, MAX_BATCH, TOP_K, VOCAB_SIZE
from personality_common.inspection.layout import human_bytes

LOOKS: Final = 16
"""At the budgets, on the reference: more than a search takes."""
_DOUBLE: Final = 8


@dataclass(frozen=True)
class NightCost:
    """Of one night.

    Attributes:
        multiply_adds: of learning, at most; None for an update that devices do not make.
        bytes_written: to its storage: the learner's state, the version of the head, and what the route
            writes, the compiled model among it. A copy that shares its blocks with the original is free.
        compilations: of Core ML models.
    """

    multiply_adds: int | None
    bytes_written: int
    compilations: int


def night_costs(simulation: Simulation) -> list[NightCost]:
    """Of every night of the phone's life, by its first route."""
    config, bundle = simulation.config, simulation.bundle
    learner = config.learners[0] if config.objective == "learner" else None
    reference = bundle.manifest.reference
    texts = 0 if reference is None else reference.latents.shape[0]
    route = simulation.nights[0].delivery.checks[0].route
    package = bundle.part(make_route(bundle, route).part).entry
    costs, opened = [], False
    for night in simulation.nights:
        cost = None if learner is None else learning(learner, night, texts, betting=not opened)
        written, compilations = delivering(route, package, night)
        written += 0 if learner is None else state_bytes(learner)
        costs.append(NightCost(cost, written, compilations))
        opened = night.update.gate is not None and night.update.gate.open
    return costs


def learning(learner: LearnerName, night: NightRecord, reference: int, *, betting: bool) -> int:
    """Multiply-adds of a night, at most.

    Args:
        reference: texts of the bundle's sample.
        betting: whether the gate was closed as the night began.
    """
    metrics = night.update.night
    texts, heard, sums = metrics.groups, metrics.candidates, VOCAB_SIZE + 2 + KINDS
    bets = VOCAB_SIZE + 1
    logits = texts * LATENT_DIM * VOCAB_SIZE
    # Step 1, and step 2: an inverse, and three products with it for each row.
    total = logits + texts * LATENT_DIM * KINDS + heard * sums**2
    if betting:
        total += bets**3 // 2 + 3 * heard * bets**2
    # The budgets: logits of the reference once, and what is done with each of them.
    total += reference * VOCAB_SIZE * (LATENT_DIM + LOOKS)
    # Steps 3 and 4, of all nights and of those since: what texts are liked for; a factorization a width.
    total += 2 * (KINDS**3 // 6 + KINDS**2 * (bets + 1) + KINDS * (bets + 1) ** 2)
    total += 2 * len(WIDTHS) * (VOCAB_SIZE**3 // 6 + VOCAB_SIZE**2)
    if learner == "grpo":
        each = texts**2 * VOCAB_SIZE + heard * TOP_K * VOCAB_SIZE
        total += 2 * logits + texts**2 * LATENT_DIM + metrics.steps * each
    return total


def state_bytes(learner: LearnerName) -> int:
    """What a learner keeps: two matrices of sums, and the training state of gradients."""
    return 2 * _DOUBLE * (VOCAB_SIZE + 2 + KINDS) ** 2 + (head_bytes(4) if learner == "grpo" else 0)


def head_bytes(itemsize: int) -> int:
    return itemsize * VOCAB_SIZE * (LATENT_DIM + 1)


def delivering(route: str, package: PackageEntry, night: NightRecord) -> tuple[int, int]:
    """Bytes and compilations; none where the head stays as it was."""
    if night.delivery.version is None:
        return 0, 0
    version = head_bytes(4)
    if route == "state":
        return version, 0  # buffers are memory
    if route == "patch":
        head = sum(tensor.size for tensor in package.tensors if tensor.name in HEAD_PARAMETERS)
        return version + head + package.bytes, 1
    tasks = math.ceil(night.update.night.groups / MAX_BATCH)
    return version + tasks * package.bytes, 0


def told(cost: NightCost) -> str:
    """`at most 91 million multiply-adds, 27.9 MB written, 1 compilation`."""
    arithmetic = "" if cost.multiply_adds is None else f"at most {cost.multiply_adds:,} multiply-adds, "
    one = "compilation" if cost.compilations == 1 else "compilations"
    return f"{arithmetic}{human_bytes(cost.bytes_written)} written, {cost.compilations} {one}"


def dearest(costs: Sequence[NightCost]) -> NightCost:
    """The night that costs most."""
    return max(costs, key=lambda cost: (cost.compilations, cost.bytes_written, cost.multiply_adds or 0))
