"""What training costs on many machines: a simulation, fitted to what was measured in 1, 2 and 4 processes.

A step is a machine's part of the batch and the optimizer's work, which is the same for any batch. Every
`local_steps` steps the slowest machine is waited for, and a ring passes all weights around. When a machine
fails, all go back to the last checkpoint. bench_processes.py measures the points and fits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DAY = 86_400.0
MOMENTS = 3
"""What goes around at an epoch's end after local steps: the weights, and both of Adam's moments."""


@dataclass(frozen=True)
class Point:
    """An epoch that was measured.

    Attributes:
        processes: on one machine.
        batch: texts in a step of all processes together.
        local_steps: between two exchanges.
        texts: of the epoch.
        seconds: it took.
    """

    processes: int
    batch: int
    local_steps: int
    texts: int
    seconds: float


@dataclass(frozen=True)
class Cluster:
    """Machines of one kind, and what connects them.

    Attributes:
        step_s: seconds of a step that do not depend on the batch.
        text_s: seconds of a text.
        exchange_bytes: of the gradients or weights.
        bytes_per_s: that a machine sends while it receives as many.
        latency_s: of a message.
        straggling: how much longer than its least time a step takes on average, as a share of it; the rest
            is drawn from an exponential distribution, for each machine and step.
        days_between_failures: of one machine, on average; exponential.
        checkpoint_every_s, checkpoint_s, restart_s: between checkpoints, of one, and of starting again.
    """

    step_s: float
    text_s: float
    exchange_bytes: float
    bytes_per_s: float
    latency_s: float = 0.0
    straggling: float = 0.0
    days_between_failures: float = math.inf
    checkpoint_every_s: float = 600.0
    checkpoint_s: float = 0.0
    restart_s: float = 0.0


@dataclass(frozen=True)
class Cost:
    """Seconds of a job by what they went to; `total_s` is their sum."""

    compute_s: float
    waiting_s: float
    exchange_s: float
    failures_s: float

    @property
    def total_s(self) -> float:
        return self.compute_s + self.waiting_s + self.exchange_s + self.failures_s


def ring_s(cluster: Cluster, machines: int) -> float:
    """Seconds of a ring all-reduce: 2 (k - 1) messages, each of a k-th of the bytes."""
    messages = 2 * (machines - 1)
    return messages * (cluster.exchange_bytes / machines / cluster.bytes_per_s + cluster.latency_s)


def simulate(
    cluster: Cluster,
    machines: int,
    batch: int,
    local_steps: int,
    texts: float,
    seed: int = 0,
    draws: int = 500,
) -> Cost:
    """A job of so many texts, epochs counted.

    Args:
        batch: texts in a step of all machines together.
        draws: rounds of local steps that stragglers are drawn for; the job's have their mean.
    """
    random = np.random.default_rng(seed)
    rounds = texts / batch / local_steps
    least = local_steps * (cluster.step_s + batch / machines * cluster.text_s)
    waiting = 0.0
    if cluster.straggling:
        # The sum of `local_steps` exponential times of mean 1 is gamma-distributed.
        late = random.gamma(local_steps, 1 / local_steps, (draws, machines))
        waiting = least * cluster.straggling * float(late.max(axis=1).mean())
    exchange = ring_s(cluster, machines)
    work = rounds * (least + waiting + exchange)
    lost = _with_failures(cluster, machines, work, random) - work
    return Cost(rounds * least, rounds * waiting, rounds * exchange, lost)


def _with_failures(cluster: Cluster, machines: int, work_s: float, random: np.random.Generator) -> float:
    """Seconds that some seconds of work take with checkpoints and failures; inf where it does not get on."""
    if math.isinf(cluster.days_between_failures):
        whole = math.ceil(work_s / cluster.checkpoint_every_s)
        return work_s + whole * cluster.checkpoint_s
    between = cluster.days_between_failures * DAY / machines
    now, done, fails = 0.0, 0.0, random.exponential(between)
    while done < work_s:
        part = min(cluster.checkpoint_every_s, work_s - done)
        if now + part + cluster.checkpoint_s <= fails:
            now, done = now + part + cluster.checkpoint_s, done + part
        else:
            now = fails + cluster.restart_s
            fails = now + random.exponential(between)
        if now > 1000 * work_s + 1000 * between:
            return math.inf
    return now


def epoch_s(cluster: Cluster, point: Point, cores: int, others: float) -> float:
    """Seconds of a measured point's epoch in processes of one machine, which share its cores.

    Args:
        others: cores' worth of other work on the machine, which takes its turns, too.
    """
    steps = math.ceil(point.texts / point.batch)
    averages = steps if point.local_steps == 1 else steps // point.local_steps + MOMENTS
    step = cluster.step_s + point.texts / steps / point.processes * cluster.text_s
    turns = max(1.0, (point.processes + others) / cores)
    return turns * (steps * step + averages * ring_s(cluster, point.processes))


def fit(points: Sequence[Point], cores: int, exchange_bytes: float) -> tuple[Cluster, float]:
    """The machine whose epochs come closest to the points', in the logarithm; and its other work.

    Four numbers: a step's seconds, a text's, bytes a second between processes, and other work.
    """
    from scipy.optimize import least_squares

    def of(logs: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[Cluster, float]:
        step, text, rate, others = np.exp(logs)
        return Cluster(float(step), float(text), exchange_bytes, float(rate)), float(others)

    def misses(logs: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
        cluster, others = of(logs)
        return [math.log(epoch_s(cluster, p, cores, others) / p.seconds) for p in points]

    starts = (np.log([0.01, 1e-4, 1e9, others]) for others in (0.1, 1.0, 4.0))
    best = min((least_squares(misses, start) for start in starts), key=lambda found: float(found.cost))
    return of(best.x)


def report(points: Sequence[Point], cores: int, exchange_bytes: float) -> dict[str, Any]:
    """The fit, how far it is from each point, and the same machine many times over."""
    cluster, others = fit(points, cores, exchange_bytes)
    return {
        "step_ms": round(cluster.step_s * 1e3, 2),
        "text_us": round(cluster.text_s * 1e6, 1),
        "mbytes_per_s": round(cluster.bytes_per_s / 1e6),
        "other_work": round(others, 2),
        "points": [
            dataclasses.asdict(point)
            | {"simulated_over_measured": round(epoch_s(cluster, point, cores, others) / point.seconds, 3)}
            for point in points
        ],
        "many_machines": many(cluster),
    }


def many(one: Cluster) -> list[dict[str, Any]]:
    """A billion texts, three times, on machines like that one, with 10 Gbit/s between them.

    A step takes a tenth longer than its least on average, a message 50 us; a machine fails every 30 days, all
    start again in a minute, and every 10 minutes a checkpoint takes a second.
    """
    cluster = dataclasses.replace(
        one, bytes_per_s=10e9 / 8, latency_s=50e-6, straggling=0.1, days_between_failures=30.0,
        checkpoint_s=1.0, restart_s=60.0,
    )  # fmt: skip
    rows = []
    for machines, batch, local in (
        (1, 256, 1), (8, 256, 1), (8, 256, 40), (8, 2048, 40), (64, 2048, 40), (64, 16_384, 1),
        (64, 16_384, 40), (1000, 16_384, 40), (1000, 256_000, 1), (1000, 256_000, 40),
    ):  # fmt: skip
        cost = simulate(cluster, machines, batch, local, 3e9)
        shares = {name: round(value / cost.total_s, 3) for name, value in dataclasses.asdict(cost).items()}
        rows.append(
            {"machines": machines, "batch": batch, "local_steps": local}
            | {"hours": float(f"{cost.total_s / 3600:.3g}")}
            | {f"share_{name.removesuffix('_s')}": share for name, share in shares.items()}
        )
    return rows
