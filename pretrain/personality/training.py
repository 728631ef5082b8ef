"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from personality_common.errors import ToolkitError
from personality_common.runs.checkpoints import Checkpoint, Checkpoints, Retention
from personality_common.runs.device import fast_dtype
from personality_common.runs.keeping import choose, start_of, take_back
from personality_common.runs.optimizers import Optimizer, adamw
from personality_common.runs.processes import ALONE, Processes
from personality_common.runs.schedule import cosine, set_learning_rate
from personality_common.runs.tracking import Track, untracked
from personality_common.terminal.progress import Reporter
from pretrain.data.spread import Spread, shuffled
from pretrain.personality.config import GRADIENT_CLIP, WEIGHT_DECAY, PretrainConfig
from pretrain.personality.labels import LabelMix
from pretrain.personality.student import Student
from pretrain.personality.targets import Quality, QualityMeter, recall, soft_targets

EVALUATION_BATCH = 1024
LOOK_EVERY = 10
"""Steps between two looks at loss and recall: reading them waits for the device, and ranking 325 tokens costs
as much as the head."""


ROWS_AT_ONCE = 1 << 18
"""Of an epoch's texts, whose rows the processes ask each other for at a time."""


@dataclass(frozen=True)
class TrainingData:
    """Base embeddings of both splits and of the tokens.

    Attributes:
        fetch: rows (n,) -> base embeddings (n, d) float32.
        train_rows: rows of the training texts; each process holds a part of them.
        val_rows: rows of the held-out texts, which each process measures on that holds them.
        token_embedding: (325, d) float32, in vocabulary order.
        labels: of training texts; None where there are none.
    """

    fetch: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    train_rows: Spread[np.int64]
    val_rows: Spread[np.int64]
    token_embedding: Tensor
    labels: LabelMix | None = None

    def batch(self, rows: NDArray[np.int64], device: str) -> Tensor:
        return torch.from_numpy(self.fetch(rows)).to(device)


def train(
    student: Student,
    data: TrainingData,
    config: PretrainConfig,
    device: str,
    folder: Path,
    reporter: Reporter,
    processes: Processes = ALONE,
    track: Track = untracked,
) -> list[dict[str, Any]]:
    """Train the student in place; a checkpoint after every epoch, in `folder`.

    Going on from a checkpoint gives the bits of an uninterrupted run: each checkpoint holds the
    weights, the optimizer's moments and the step, and what is drawn in an epoch depends on the seed and the
    epoch alone.

    Several processes (DistributedDataParallel) take an equal part of every batch, and the loss is the mean
    over the whole batch: but for rounding, and for dropout's draws, their number changes nothing. With
    `local_steps` above 1 each steps on the mean over its own part, and every so many steps, and at the end of
    each epoch, their weights are averaged: local SGD (arXiv:1805.09767), or DiLoCo (arXiv:2311.08105) with
    an outer step of 1 and no momentum. At the end of an epoch the moments are averaged, too, so that
    the leader's checkpoint is everybody's.

    Args:
        student: at its start; on the CPU.
        data: both splits.
        config: epochs, batch size, learning rate, seed; `resume` takes up the newest checkpoint.
        device: cpu, cuda or mps.
        folder: for checkpoints.
        reporter: hears of progress, and of each epoch's end.
        processes: that train together; the leader writes the checkpoints.
        track: hears of the history after each epoch.

    Returns:
        The history: an entry per epoch, and one (epoch 0) for the start.

    Raises:
        ToolkitError: the loss is not finite.
        OSError: a checkpoint cannot be written.
    """
    # Device and precision
    student.to(device)
    tokens = data.token_embedding.to(device)
    precision = fast_dtype(device)

    # Optimizer and schedule
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = adamw(
        parameters, device=device, lr=config.first_lr, eps=config.adam_eps, weight_decay=WEIGHT_DECAY
    )
    texts = len(data.train_rows)
    steps_per_epoch = math.ceil(texts / config.batch_size)
    steps = config.epochs * steps_per_epoch

    # Where to begin
    step, epoch = 0, 0
    history: list[dict[str, Any]] = []
    checkpoints = Checkpoints(folder, count="epoch", metric="valloss", keep=Retention(last=config.kept))
    start = start_of(student, config.keep)
    if config.resume and (checkpoint := checkpoints.restore(student, [optimizer], reporter)):
        step, epoch, history = checkpoint.step, checkpoint.position["epoch"], checkpoint.history
        reporter.say(f"resuming after epoch {epoch} of {config.epochs}")
    processes.require_same(str(epoch), "the checkpoint that training goes on from")
    alone = processes.size == 1 or config.local_steps > 1
    with torch.no_grad():
        processes.follow(list(student.parameters()))
    model = student if alone else DistributedDataParallel(student)
    trained: dict[str, float] = {}

    while True:
        # Evaluation comes before the steps, so that the start and the end are measured, too.
        if len(history) == epoch:
            quality = evaluate(student, data, device, processes)
            history.append({"epoch": epoch, **trained, **_figures(quality)})
            if epoch > 0 and processes.leads:
                place = Checkpoint(step, {"epoch": epoch}, history)
                checkpoints.save(place, quality.loss, student, [optimizer])
            reporter.say(_sentence(epoch, config.epochs, quality, trained))
        track(history)
        if epoch == config.epochs:
            take_back(choose(history, "epoch", config.keep), student, start, checkpoints)
            return history

        epoch += 1
        started = time.monotonic()
        loss_sum, seen = torch.zeros((), device=device), 0
        torch.manual_seed(_drawn_from(config.seed, epoch, processes.rank))
        student.train()
        with reporter.stage(f"epoch {epoch}/{config.epochs}", texts, "samples") as stage:
            for texts_at_once, rows in _shuffled_batches(data.train_rows, config, epoch, processes):
                base = data.batch(rows, device)
                targets, weights = soft_targets(base, tokens), None
                if data.labels:
                    targets, weights = data.labels.targets(rows, targets)
                with torch.autocast(device, dtype=precision, enabled=precision != torch.float32):
                    logits = model(base).float()
                weight = None if weights is None else weights[:, None]
                summed = F.binary_cross_entropy_with_logits(logits, targets, weight, reduction="sum")
                summed = summed / len(tokens)
                optimizer.zero_grad()
                # Gradients are averaged over processes, whose parts of a batch may differ by one text.
                scale = 1 / max(1, len(rows)) if alone else processes.size / texts_at_once
                (summed * scale).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP)
                lr = cosine(step, steps, config.first_lr, config.last_lr)
                set_learning_rate(optimizer, lr)
                optimizer.step()
                step += 1
                if alone and step % config.local_steps == 0:
                    _average(processes, parameters)

                loss_sum += summed.detach()
                seen += len(rows)
                figures: dict[str, str] = {}
                if step % LOOK_EVERY == 0 or step % steps_per_epoch == 0:
                    loss = loss_sum.item() / max(1, seen)
                    if not math.isfinite(loss):
                        raise ToolkitError(
                            f"the loss must stay finite, is {loss} by step {step}, in epoch {epoch}; "
                            "use a smaller --lr"
                        )
                    top5 = recall(logits.detach(), targets, 5).mean().item()
                    figures = {"loss": f"{loss:.5f}", "top-5 recall": f"{top5:.3f}"}
                stage.advance(texts_at_once, figures)

        if alone:
            _average(processes, [*parameters, *_moments(optimizer)])
        seconds = time.monotonic() - started
        trained = {
            "train_loss": processes.sum(loss_sum.cpu().double()).item() / texts,
            "learning_rate": lr,
            "seconds": round(seconds, 3),
            "samples_per_second": round(texts / seconds, 1),
        }


@torch.no_grad()
def _average(processes: Processes, tensors: Sequence[Tensor]) -> None:
    processes.average(tensors)


def _moments(optimizer: Optimizer) -> list[Tensor]:
    """Adam's, of all parameters; the numbers of steps are everybody's already."""
    return [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]


@torch.no_grad()
def evaluate(student: Student, data: TrainingData, device: str, processes: Processes = ALONE) -> Quality:
    """Quality on the held-out texts, in float32 as the packages compute, dropout off."""
    student.eval()
    meter = QualityMeter()
    tokens = data.token_embedding.to(device)
    own = data.val_rows.own
    for start in range(0, len(own), EVALUATION_BATCH):
        base = data.batch(own[start : start + EVALUATION_BATCH], device)
        meter.add(student(base), soft_targets(base, tokens))
    meter.totals = processes.sum(meter.totals)
    return meter.result()


def _shuffled_batches(
    rows: Spread[np.int64], config: PretrainConfig, epoch: int, processes: Processes
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Of each batch, how many texts it has, and the rows of this process's part of them."""
    order = shuffled(np.random.default_rng(np.random.SeedSequence((config.seed, epoch))), len(rows))
    at_once = config.batch_size * max(1, ROWS_AT_ONCE // config.batch_size)
    for first in range(0, len(order), at_once):
        block = order[first : first + at_once]
        batches = [block[at : at + config.batch_size] for at in range(0, len(block), config.batch_size)]
        own = [np.array_split(batch, processes.size)[processes.rank] for batch in batches]
        found = rows.take(np.concatenate(own))
        for batch, part in zip(batches, np.split(found, np.cumsum([len(o) for o in own[:-1]])), strict=True):
            yield len(batch), part


def _drawn_from(seed: int, epoch: int, rank: int) -> int:
    """The seed of what a process draws in an epoch: dropout."""
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])


def _figures(quality: Quality) -> dict[str, float]:
    return {f"val_{name}": value for name, value in asdict(quality).items()}


def _sentence(epoch: int, epochs: int, quality: Quality, trained: Mapping[str, float]) -> str:
    """Of an epoch, or of the start (epoch 0)."""
    at = f"epoch {epoch}/{epochs}" if epoch else "start"
    speed = "  {samples_per_second:,.0f} samples/s  {seconds:.1f} s".format(**trained) if epoch else ""
    return (
        f"{at}: val loss {quality.loss:.6f} (floor + {quality.gap:.1e})  "
        f"top-5 recall {quality.top5_recall:.4f}  top-8 recall {quality.top8_recall:.4f}  "
        f"NDCG@8 {quality.ndcg8:.4f}{speed}"
    )
