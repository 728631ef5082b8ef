"""A simulation in a terminal."""

from __future__ import annotations

import torch
from rich.table import Table

from device_sim.simulate.simulation import Simulation
from device_sim.simulate.verdict import worst_checks
from device_sim.users.nights import Night
from grpo.gate import GateReading
from grpo.learners import LearnerName
from grpo.tune import TuneResult
from personality_common.evidence.intervals import mean_interval


def nights_table(simulation: Simulation) -> Table:
    """A row per night; without a simulated user, without held-out rewards.

    "heard" is the mean reward in the feedback, "of the update" the share that the budgets left.
    """
    with_user = simulation.nights[0].lived is not None
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("night", justify="right")
    table.add_column("heard", justify="right")
    if with_user:
        table.add_column("held-out reward", justify="right")
        table.add_column("rise", justify="right")
    for name in ("top 8 kept", "KL", "steps", "of the update"):
        table.add_column(name, justify="right")
    if with_user:
        first = simulation.nights[0].lived
        assert first is not None
        table.add_row("–", "", f"{first.reward - first.rise:+.3f}", "", "1.000", "0.000", "", "")
    for number, night in enumerate(simulation.nights, start=1):
        metrics, lived = night.update.night, night.lived
        heard = "–" if metrics.reward_mean is None else f"{metrics.reward_mean:+.3f}"
        rewards = [] if lived is None else [f"{lived.reward:+.3f}", f"{lived.rise:+.3f}"]
        table.add_row(
            str(number), heard, *rewards, f"{night.drift.overlap:.3f}", f"{night.drift.kl:.3f}",
            str(metrics.steps), f"{metrics.scale:.0%}",
        )  # fmt: skip
    return table


def learners_table(simulation: Simulation) -> Table:
    """Learners side by side, over all their lives; the first is the phone's."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("learner")
    for name in ("lives", "rise", "95% over lives", "top 8 kept", "gate open in"):
        table.add_column(name, justify="right")
    for name, lives, gates in side_by_side(simulation):
        rises = mean_interval(torch.tensor([life.rise for life in lives], dtype=torch.float64))
        overlap = sum(life.overlap for life in lives) / len(lives)
        spread = f"{rises.low:+.3f} to {rises.high:+.3f}" if len(lives) > 1 else "–"
        table.add_row(
            name, str(len(lives)), f"{rises.mean:+.3f}", spread, f"{overlap:.3f}",
            f"{sum(gate.open for gate in gates)} of {len(gates)}",
        )  # fmt: skip
    return table


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


def routes_table(simulation: Simulation) -> Table:
    """The routes side by side, each on its worst night."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("route")
    for name in ("numbers that differ", "relative error", "error of logits"):
        table.add_column(name, justify="right")
    table.add_column("the head must be")
    musts = {
        "patch": "PyTorch's, bit for bit",
        "update-task": "PyTorch's within 1e-6",
        "state": "PyTorch's, rounded to float16",
    }
    for check in worst_checks([night.delivery for night in simulation.nights]):
        table.add_row(
            check.route, f"{check.differing:,}", f"{check.error:.1e}", f"{check.logits_error:.1e}",
            musts[check.route],
        )  # fmt: skip
    return table


def reasons(simulation: Simulation) -> list[str]:
    """Why nights taught nothing; the table has those that were cut short, the report says why."""
    return [
        f"night {number}: {reason}"
        for number, night in enumerate(simulation.nights, start=1)
        if not night.update.steps and not night.update.night.changed_weights
        for reason in night.update.reasons
    ]


def update_table(update: TuneResult) -> Table:
    """What one update did."""
    night = update.night
    table = Table(box=None, pad_edge=False, show_header=False)
    rows = {
        "interactions": f"{night.groups}, {night.dropped_groups} of them without spread",
        "candidates": f"{night.candidates} with feedback",
        "reward": "–" if night.reward_mean is None else f"{night.reward_mean:+.4f} in the mean",
        "steps": f"{night.steps}, gradient norm {night.gradient_norm:.3g} at the first",
        "head": f"{night.changed_weights:,} numbers moved, by {night.head_change:.3g} in Euclidean norm",
        "drift": f"KL {night.kl_shipped:.4f}, top 8 in common {night.overlap_shipped:.3f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
