"""A simulation in a terminal."""

from __future__ import annotations

import torch

from device_sim.simulate.simulation import Simulation
from device_sim.simulate.verdict import worst_checks
from device_sim.users.nights import Night
from grpo.gate import GateReading
from grpo.learners import LearnerName
from grpo.tune import TuneResult
from personality_common.evidence.intervals import mean_interval
from personality_common.terminal.tables import Column, Grid, facts, figures


def nights_table(simulation: Simulation) -> Grid:
    """A row per night; without a simulated user, without held-out rewards.

    "heard" is the mean reward in the feedback, "of the update" the share that the budgets left.
    """
    with_user = simulation.nights[0].lived is not None
    columns = [Column("night", "figure"), Column("heard", "figure", drop=2)]
    if with_user:
        columns += [Column("held-out reward", "figure", drop=3), Column("rise", "figure")]
    columns += [*figures("top 8 kept", "KL"), Column("steps", "figure", drop=1), *figures("of the update")]
    rows = []
    if with_user:
        first = simulation.nights[0].lived
        assert first is not None
        rows.append(["–", "", f"{first.reward - first.rise:+.3f}", "", "1.000", "0.000", "", ""])
    for number, night in enumerate(simulation.nights, start=1):
        metrics, lived = night.update.night, night.lived
        heard = "–" if metrics.reward_mean is None else f"{metrics.reward_mean:+.3f}"
        rewards = [] if lived is None else [f"{lived.reward:+.3f}", f"{lived.rise:+.3f}"]
        drift = [f"{night.drift.overlap:.3f}", f"{night.drift.kl:.3f}"]
        rows.append([str(number), heard, *rewards, *drift, str(metrics.steps), f"{metrics.scale:.0%}"])
    return Grid(columns, rows)


def learners_table(simulation: Simulation) -> Grid:
    """Learners side by side, over all their lives; the first is the phone's."""
    columns = (
        Column("learner"), *figures("lives", "rise"), Column("95% over lives", "figure", drop=1),
        *figures("top 8 kept", "gate open in"),
    )  # fmt: skip
    rows = []
    for name, lives, gates in side_by_side(simulation):
        rises = mean_interval(torch.tensor([life.rise for life in lives], dtype=torch.float64))
        overlap = sum(life.overlap for life in lives) / len(lives)
        spread = f"{rises.low:+.3f} to {rises.high:+.3f}" if len(lives) > 1 else "–"
        opened = f"{sum(gate.open for gate in gates)} of {len(gates)}"
        rows.append((name, str(len(lives)), f"{rises.mean:+.3f}", spread, f"{overlap:.3f}", opened))
    return Grid(columns, rows)


def side_by_side(simulation: Simulation) -> list[tuple[LearnerName, list[Night], list[GateReading]]]:
    """Last nights and gates of every learner's lives."""
    found = []
    for name in simulation.config.learners:
        others = [other for other in simulation.others if other.learner == name]
        lives, gates = [other.last for other in others], [other.gate for other in others]
        last = simulation.nights[-1]
        if name == simulation.config.learners[0] and last.lived is not None and last.update.gate is not None:
            lives, gates = [last.lived, *lives], [last.update.gate, *gates]
        found.append((name, lives, gates))
    return found


def gate_line(update: TuneResult) -> str | None:
    """`gate: closed (wealth 3.1 of 20)`; None where there is no learner behind one."""
    return None if update.gate is None else f"gate: {update.gate}"


def routes_table(simulation: Simulation) -> Grid:
    """The routes side by side, each on its worst night."""
    columns = (
        Column("route"), *figures("numbers that differ", "relative error"),
        Column("error of logits", "figure", drop=1), Column("the head must be", "text"),
    )  # fmt: skip
    musts = {
        "patch": "PyTorch's, bit for bit",
        "update-task": "PyTorch's within 1e-6",
        "state": "PyTorch's, rounded to float16",
    }
    rows = [
        (c.route, f"{c.differing:,}", f"{c.error:.1e}", f"{c.logits_error:.1e}", musts[c.route])
        for c in worst_checks([night.delivery for night in simulation.nights])
    ]
    return Grid(columns, rows)


def reasons(simulation: Simulation) -> list[str]:
    """Of each night that made no version, why; the table has those that were cut short."""
    return [
        f"night {number} made no version, the head is as it was: "
        + ("; ".join(night.update.reasons) or "the update moved no number of it")
        for number, night in enumerate(simulation.nights, start=1)
        if night.delivery.version is None
    ]


def update_table(update: TuneResult) -> Grid:
    """What one update did."""
    night = update.night
    return facts(
        [
            ("interactions", f"{night.groups}, {night.dropped_groups} of them without spread"),
            ("candidates", f"{night.candidates} with feedback"),
            ("reward", "–" if night.reward_mean is None else f"{night.reward_mean:+.4f} in the mean"),
            ("steps", f"{night.steps}, gradient norm {night.gradient_norm:.3g} at the first"),
            (
                "head",
                f"{night.changed_weights:,} numbers moved, by {night.head_change:.3g} in Euclidean norm",
            ),
            ("drift", f"KL {night.kl_shipped:.4f}, top 8 in common {night.overlap_shipped:.3f}"),
        ]
    )
