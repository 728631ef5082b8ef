"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from personality_common.errors import ToolkitError
from personality_common.runs.checkpoints import Checkpoint, Checkpoints, Retention
from personality_common.runs.device import fast_dtype
from personality_common.runs.keeping import choose, start_of, take_back
from personality_common.runs.processes import ALONE, Processes
from personality_common.runs.tracking import Track, untracked
from personality_common.terminal.progress import Reporter
from pretrain.lm.config import TrainConfig
from pretrain.lm.model import Decoder
from pretrain.lm.optimizer import DECAY, PREPARED_DECAY, Optimizers, rate
from pretrain.lm.packing import DOCUMENTS, INPUTS, NO_TARGET, TARGETS, WEIGHT_UNIT, WEIGHTS, Order

LOOK_EVERY: Final = 8
"""Steps between two looks at the loss, which a GPU must be waited for."""
CLIP: Final = 1.0
"""Greatest norm of all gradients together."""
MEASURED_ROWS: Final = 64
"""Of held-out text, the same at each measurement."""
GROUPS: Final = ("embedding", "attention", "feed_forward")
"""Of matrices, as the names of their parameters have them."""


def train(
    model: Decoder,
    rows: NDArray[np.uint16],
    held_out: NDArray[np.uint16],
    config: TrainConfig,
    device: str,
    folder: Path,
    reporter: Reporter,
    processes: Processes = ALONE,
    track: Track = untracked,
) -> list[dict[str, Any]]:
    """Train a decoder in place; a checkpoint at each measurement, in `folder`.

    What a step learns from depends on the seed and the step's number alone, so that going on from a
    checkpoint gives the bits of an uninterrupted run.

    Several processes (DistributedDataParallel) take an equal part of every step's rows, and the loss is the
    mean over all targets of the step, each with its weight: but for rounding, their number changes nothing.

    Args:
        model: at its start.
        rows: (n, 4, context length) as `pretrain.lm.packing` makes them.
        held_out: rows to measure on.
        config: tokens, batch size, rates, seed; `resume` takes up the newest checkpoint.
        device: cpu, cuda or mps.
        folder: for checkpoints.
        reporter: hears of progress.
        processes: that train together; the leader writes the checkpoints.
        track: hears of the history after each measurement.

    Returns:
        The history: an entry per measurement, the first of the start. What it says is the health of training:
        losses in nats a token, what was gained since the entry before; norms of the gradient before clipping;
        and by which share of its own norm the last step changed each group of matrices.

    Raises:
        ToolkitError: the loss is not finite.
        OSError: a checkpoint cannot be written.
    """
    model.to(device).train()
    optimizers = Optimizers(model, config)
    order = Order(len(rows), config.seed)
    steps = config.steps(model.config.context_length)
    tokens_a_step = config.batch_size * model.config.context_length
    spread = np.linspace(0, len(held_out) - 1, min(MEASURED_ROWS, len(held_out))).astype(np.int64)
    measured_on = np.array(held_out[spread])

    # Where to begin
    step = 0
    history: list[dict[str, Any]] = []
    checkpoints = Checkpoints(folder, count="step", metric="valloss", keep=Retention())
    start = start_of(model, config.keep)
    if config.resume and (checkpoint := checkpoints.restore(model, optimizers.all, reporter)):
        step, history = checkpoint.step, checkpoint.history
        reporter.say(f"resuming after step {step} of {steps}")
    processes.require_same(str(step), "the checkpoint that training goes on from")
    # Gives all processes the leader's weights.
    together = DistributedDataParallel(model) if processes.size > 1 else model

    trained: dict[str, Any] = {}
    losses, norms = _Figures(), _Figures()
    started = time.monotonic()
    with reporter.stage("training", steps * tokens_a_step, "tokens") as stage:
        stage.advance(step * tokens_a_step)
        while True:
            # Measured before the step, so that the start and the end are, too.
            due = step % config.evaluate_every == 0 or step == steps
            if due and (not history or history[-1]["step"] != step):
                val_loss = mean_loss(model, measured_on, config.batch_size, processes)
                gain = history[-1]["val_loss"] - val_loss if history else 0.0
                entry = {"step": step, "tokens": step * tokens_a_step, "val_loss": val_loss, "gain": gain}
                history.append(entry | trained)
                if step > 0 and processes.leads:
                    checkpoints.save(Checkpoint(step, {}, history), val_loss, model, optimizers.all)
                losses, norms = _Figures(), _Figures()
                started = time.monotonic()
            if due:
                track(history)
            if step == steps:
                take_back(choose(history, "step", config.keep), model, start, checkpoints)
                return history

            batch = rows[order(step * config.batch_size, config.batch_size)]
            weight = float(target_weights(batch).sum())
            own = np.array_split(batch, processes.size)[processes.rank]
            weights = torch.from_numpy(target_weights(own)).to(device)
            # Gradients are averaged over processes, whose rows do not weigh the same.
            loss = (batch_loss(together, own, device) * weights).sum() * (processes.size / weight)
            loss.backward()  # type: ignore[no-untyped-call]
            norms.add(nn.utils.clip_grad_norm_(model.parameters(), CLIP))
            losses.add(loss)
            last = (step + 1) % config.evaluate_every == 0 or step + 1 == steps
            before = _matrices(model) if last else {}
            factor = rate(step, steps, PREPARED_DECAY if config.prepare else DECAY)
            optimizers.step(factor)
            step += 1

            figures: dict[str, str] = {}
            if step % LOOK_EVERY == 0 or last:
                if not math.isfinite(losses.mean()):
                    raise ToolkitError(
                        f"the loss must stay finite, is {losses.mean()} by step {step}; "
                        "use a smaller --lr or --muon-lr"
                    )
                figures = {"step": str(step), "loss": f"{losses.mean():.4f}"}
            if last:
                seconds = time.monotonic() - started
                trained = {
                    "train_loss": float(processes.sum(losses.all().mean())) / processes.size,
                    "rate": factor,
                    "gradient_norm": {"mean": norms.mean(), "max": norms.max(), "clipped": norms.above(CLIP)},
                    "update_to_weight": update_to_weight(before, _matrices(model)),
                    "seconds": round(seconds, 3),
                    "tokens_per_second": round(losses.count() * tokens_a_step / seconds, 1),
                }
            stage.advance(tokens_a_step, figures)


def batch_loss(model: nn.Module, rows: NDArray[np.uint16], device: str) -> Tensor:
    """(n,) nats of each target of (rows, 4, T), in the order in which they stand.

    Args:
        model: a `Decoder`, or one that trains with those of other processes; on the device.
    """
    packed = torch.from_numpy(rows.astype(np.int64)).to(device)
    precision = fast_dtype(device)
    targets = packed[:, TARGETS]
    bearing = targets != NO_TARGET
    with torch.autocast(device, dtype=precision, enabled=precision != torch.float32):
        logits = model(packed[:, INPUTS], packed[:, DOCUMENTS], at=bearing)
    return F.cross_entropy(logits, targets[bearing], reduction="none")


def target_weights(rows: NDArray[np.uint16]) -> NDArray[np.float32]:
    """(n,) of the same targets: how much each counts."""
    counts = rows[:, WEIGHTS][rows[:, TARGETS] != NO_TARGET]
    weights: NDArray[np.float32] = np.divide(counts, WEIGHT_UNIT, dtype=np.float32)
    return weights


@torch.no_grad()
def mean_loss(
    model: Decoder, rows: NDArray[np.uint16], batch_size: int, processes: Processes = ALONE
) -> float:
    """Nats per target of rows, of which each process takes a part; all targets count alike."""
    device = model.embedding.weight.device.type
    own = np.array_split(rows, processes.size)[processes.rank]
    sums = torch.zeros(2, dtype=torch.float64)
    for start in range(0, len(own), batch_size):
        losses = batch_loss(model, own[start : start + batch_size], device)
        sums += torch.tensor([float(losses.cpu().double().sum()), len(losses)])
    total, count = processes.sum(sums).tolist()
    return float(total / count)


def update_to_weight(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """By which share of its norm (Frobenius) each group of matrices changed."""
    found: dict[str, float] = {}
    for group in GROUPS:
        names = [name for name in before if group in name]
        change = sum(float((after[name] - before[name]).square().sum()) for name in names)
        weight = sum(float(before[name].square().sum()) for name in names)
        found[group] = math.sqrt(change / weight)
    return found


def _matrices(model: Decoder) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.ndim == 2}


class _Figures:
    """Numbers of a GPU, which are not waited for until somebody asks."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    def add(self, value: Tensor) -> None:
        self.values.append(value.detach())

    def count(self) -> int:
        return len(self.values)

    def all(self) -> Tensor:
        return torch.stack(self.values).cpu().double()

    def mean(self) -> float:
        return float(self.all().mean())

    def max(self) -> float:
        return float(self.all().max())

    def above(self, limit: float) -> float:
        return float((self.all() > limit).double().mean())
