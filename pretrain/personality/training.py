"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
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
from personality_common.runs.checkpoints import (
    Checkpoint,
    newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from personality_common.runs.device import fast_dtype
from personality_common.runs.processes import ALONE, Processes
from personality_common.terminal.progress import Reporter
from pretrain.personality.config import FINAL_LR, GRADIENT_CLIP, WEIGHT_DECAY, PretrainConfig
from pretrain.personality.student import Student
from pretrain.personality.targets import Quality, QualityMeter, recall, soft_targets

EVALUATION_BATCH = 1024
RECALL_EVERY = 10
"""Steps between two looks at the training recall: ranking 325 tokens costs as much as the head."""


@dataclass(frozen=True)
class TrainingData:
    """Base embeddings of both splits and of the tokens.

    Attributes:
        fetch: rows (n,) -> base embeddings (n, d) float32.
        train_rows: rows of the training texts.
        val_rows: rows of the held-out texts.
        token_embedding: (325, d) float32, in vocabulary order.
    """

    fetch: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    train_rows: NDArray[np.int64]
    val_rows: NDArray[np.int64]
    token_embedding: Tensor

    def batch(self, rows: NDArray[np.int64], device: str) -> Tensor:
        return torch.from_numpy(self.fetch(rows)).to(device)


def learning_rate(step: int, steps: int, first: float) -> float:
    """Cosine from `first` at step 0 to FINAL_LR at the last step (arXiv:1608.03983, one cycle)."""
    last = min(FINAL_LR, first)
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / max(steps - 1, 1)))


def train(
    student: Student,
    data: TrainingData,
    config: PretrainConfig,
    device: str,
    folder: Path,
    reporter: Reporter,
    processes: Processes = ALONE,
) -> list[dict[str, Any]]:
    """Train the student in place; a checkpoint after every epoch, in `folder`.

    Going on from a checkpoint gives the bits of an uninterrupted run: each checkpoint holds the
    weights, the optimizer's moments and the step, and what is drawn in an epoch depends on the seed and the
    epoch alone.

    Several processes (DistributedDataParallel) take an equal part of every batch, and the loss is the mean
    over the whole batch: but for rounding, and for dropout's draws, their number changes nothing.

    Args:
        student: at its start; on the CPU.
        data: both splits.
        config: epochs, batch size, learning rate, seed; `resume` takes up the newest checkpoint.
        device: cpu, cuda or mps.
        folder: for checkpoints.
        reporter: hears of progress, and of each epoch's end.
        processes: that train together; the leader writes the checkpoints.

    Returns:
        The history: an entry per epoch, and one (epoch 0) for the start.

    Raises:
        ToolkitError: the loss is not finite.
        OSError: a checkpoint cannot be written.
    """
    student.to(device)
    tokens = data.token_embedding.to(device)
    precision = fast_dtype(device)
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.first_lr, eps=config.adam_eps, weight_decay=WEIGHT_DECAY, fused=device != "mps"
    )
    steps_per_epoch = math.ceil(len(data.train_rows) / config.batch_size)
    steps = config.epochs * steps_per_epoch

    checkpoint = newest_checkpoint(folder, reporter) if config.resume else None
    if checkpoint is None:
        epoch, step = 0, 0
        quality = evaluate(student, data, device, processes)
        history = [{"epoch": 0, **_figures(quality)}]
        reporter.say(f"start: {_sentence(quality)}")
    else:
        epoch, step, history = checkpoint.epoch, checkpoint.step, checkpoint.history
        student.load_state_dict(dict(checkpoint.weights))
        restore_optimizer(optimizer, checkpoint.optimizer)
        reporter.say(f"resuming after epoch {epoch} of {config.epochs}")
    processes.require_same(str(epoch), "the checkpoint that training goes on from")
    # It gives all processes the leader's weights.
    model = DistributedDataParallel(student) if processes.size > 1 else student

    while epoch < config.epochs:
        epoch += 1
        started = time.monotonic()
        loss_sum = torch.zeros((), device=device)
        torch.manual_seed(_drawn_from(config.seed, epoch, processes.rank))
        student.train()
        with reporter.stage(f"epoch {epoch}/{config.epochs}", len(data.train_rows), "samples") as stage:
            for batch in _shuffled_batches(data.train_rows, config.batch_size, config.seed, epoch):
                rows = np.array_split(batch, processes.size)[processes.rank]
                base = data.batch(rows, device)
                targets = soft_targets(base, tokens)
                with torch.autocast(device, dtype=precision, enabled=precision != torch.float32):
                    logits = model(base).float()
                summed = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(tokens)
                optimizer.zero_grad(set_to_none=True)
                # Gradients are averaged over processes, whose parts of a batch may differ by one text.
                (summed * (processes.size / len(batch))).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP)
                lr = learning_rate(step, steps, config.first_lr)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.step()

                loss_sum += summed.detach()
                loss = summed.item() / max(1, len(rows))
                figures = {"loss": f"{loss:.5f}"}
                if not math.isfinite(loss):
                    raise ToolkitError(
                        f"the loss must stay finite, is {loss} in step {step} of epoch {epoch}; "
                        "use a smaller --lr"
                    )
                if step % RECALL_EVERY == 0:
                    figures["top-5 recall"] = f"{recall(logits.detach(), targets, 5).mean().item():.3f}"
                stage.advance(len(batch), figures)
                step += 1

        seconds = time.monotonic() - started
        quality = evaluate(student, data, device, processes)
        entry = {
            "epoch": epoch,
            "train_loss": processes.sum(loss_sum.cpu().double()).item() / len(data.train_rows),
            "learning_rate": lr,
            "seconds": round(seconds, 3),
            "samples_per_second": round(len(data.train_rows) / seconds, 1),
            **_figures(quality),
        }
        history.append(entry)
        saved = Checkpoint(
            epoch=epoch,
            step=step,
            weights=student.state_dict(),
            optimizer=optimizer_tensors(optimizer),
            history=history,
        )
        if processes.leads:
            save_checkpoint(folder, saved, quality.loss)
        reporter.say(
            f"epoch {epoch}/{config.epochs}: {_sentence(quality)}  "
            f"{entry['samples_per_second']:,.0f} samples/s  {seconds:.1f} s"
        )
    return history


@torch.no_grad()
def evaluate(student: Student, data: TrainingData, device: str, processes: Processes = ALONE) -> Quality:
    """Quality on the held-out texts, in float32 as the packages compute, dropout off."""
    student.eval()
    meter = QualityMeter()
    tokens = data.token_embedding.to(device)
    own = data.val_rows[processes.rank :: processes.size]
    for start in range(0, len(own), EVALUATION_BATCH):
        base = data.batch(own[start : start + EVALUATION_BATCH], device)
        meter.add(student(base), soft_targets(base, tokens))
    meter.totals = processes.sum(meter.totals)
    return meter.result()


def _shuffled_batches(
    rows: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> Iterator[NDArray[np.int64]]:
    order = np.random.default_rng(np.random.SeedSequence((seed, epoch))).permutation(len(rows))
    for start in range(0, len(rows), batch_size):
        yield rows[order[start : start + batch_size]]


def _drawn_from(seed: int, epoch: int, rank: int) -> int:
    """The seed of what a process draws in an epoch: dropout."""
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])


def _figures(quality: Quality) -> dict[str, float]:
    return {f"val_{name}": value for name, value in asdict(quality).items()}


def _sentence(quality: Quality) -> str:
    return (
        f"val loss {quality.loss:.6f} (floor + {quality.gap:.1e})  top-5 recall {quality.top5_recall:.4f}  "
        f"top-8 recall {quality.top8_recall:.4f}  NDCG@8 {quality.ndcg8:.4f}"
    )
