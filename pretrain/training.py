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

from personality_common.device import fast_dtype
from personality_common.errors import ToolkitError
from personality_common.progress import Reporter
from pretrain.checkpoints import (
    Checkpoint,
    newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from pretrain.config import FINAL_LR, GRADIENT_CLIP, WEIGHT_DECAY, PretrainConfig
from pretrain.student import Student
from pretrain.targets import Quality, QualityMeter, recall, soft_targets

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
) -> list[dict[str, Any]]:
    """Train the student in place; a checkpoint after every epoch, in `folder`.

    Going on from a checkpoint gives the bits of an uninterrupted run: each checkpoint holds the
    weights, the optimizer's moments, the step, and the states of all generators.

    Args:
        student: at its start; on the CPU.
        data: both splits.
        config: epochs, batch size, learning rate, seed; `resume` takes up the newest checkpoint.
        device: cpu, cuda or mps.
        folder: for checkpoints.
        reporter: hears of progress, and of each epoch's end.

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
    shuffler = torch.Generator().manual_seed(config.seed)
    steps_per_epoch = math.ceil(len(data.train_rows) / config.batch_size)
    steps = config.epochs * steps_per_epoch

    checkpoint = newest_checkpoint(folder, reporter) if config.resume else None
    if checkpoint is None:
        epoch, step = 0, 0
        quality = evaluate(student, data, device)
        history = [{"epoch": 0, **_figures(quality)}]
        reporter.say(f"start: {_sentence(quality)}")
    else:
        epoch, step, history = checkpoint.epoch, checkpoint.step, checkpoint.history
        student.load_state_dict(dict(checkpoint.weights))
        restore_optimizer(optimizer, checkpoint.optimizer)
        _set_rng(checkpoint.rng, shuffler)
        reporter.say(f"resuming after epoch {epoch} of {config.epochs}")

    while epoch < config.epochs:
        epoch += 1
        started = time.monotonic()
        loss_sum = torch.zeros((), device=device)
        student.train()
        with reporter.stage(f"epoch {epoch}/{config.epochs}", len(data.train_rows), "samples") as stage:
            for rows in _shuffled_batches(data.train_rows, config.batch_size, shuffler):
                base = data.batch(rows, device)
                targets = soft_targets(base, tokens)
                with torch.autocast(device, dtype=precision, enabled=precision != torch.float32):
                    logits = student(base).float()
                loss = F.binary_cross_entropy_with_logits(logits, targets)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP)
                lr = learning_rate(step, steps, config.first_lr)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.step()

                loss_sum += loss.detach() * len(rows)
                figures = {"loss": f"{loss.item():.5f}"}
                if not math.isfinite(loss.item()):
                    raise ToolkitError(
                        f"the loss must stay finite, is {loss.item()} in step {step} of epoch {epoch}; "
                        "use a smaller --lr"
                    )
                if step % RECALL_EVERY == 0:
                    figures["top-5 recall"] = f"{recall(logits.detach(), targets, 5).mean().item():.3f}"
                stage.advance(len(rows), figures)
                step += 1

        seconds = time.monotonic() - started
        quality = evaluate(student, data, device)
        entry = {
            "epoch": epoch,
            "train_loss": loss_sum.item() / len(data.train_rows),
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
            rng=_rng(shuffler),
            history=history,
        )
        save_checkpoint(folder, saved, quality.loss)
        reporter.say(
            f"epoch {epoch}/{config.epochs}: {_sentence(quality)}  "
            f"{entry['samples_per_second']:,.0f} samples/s  {seconds:.1f} s"
        )
    return history


@torch.no_grad()
def evaluate(student: Student, data: TrainingData, device: str) -> Quality:
    """Quality on the held-out texts, in float32 as the packages compute, dropout off."""
    student.eval()
    meter = QualityMeter()
    tokens = data.token_embedding.to(device)
    for start in range(0, len(data.val_rows), EVALUATION_BATCH):
        base = data.batch(data.val_rows[start : start + EVALUATION_BATCH], device)
        meter.add(student(base), soft_targets(base, tokens))
    return meter.result()


def _shuffled_batches(
    rows: NDArray[np.int64], batch_size: int, shuffler: torch.Generator
) -> Iterator[NDArray[np.int64]]:
    order = torch.randperm(len(rows), generator=shuffler).numpy()
    for start in range(0, len(rows), batch_size):
        yield rows[order[start : start + batch_size]]


def _rng(shuffler: torch.Generator) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state(), "shuffler": shuffler.get_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_rng(states: Any, shuffler: torch.Generator) -> None:
    torch.set_rng_state(states["cpu"])
    shuffler.set_state(states["shuffler"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _figures(quality: Quality) -> dict[str, float]:
    return {f"val_{name}": value for name, value in asdict(quality).items()}


def _sentence(quality: Quality) -> str:
    return (
        f"val loss {quality.loss:.6f} (floor + {quality.gap:.1e})  top-5 recall {quality.top5_recall:.4f}  "
        f"top-8 recall {quality.top8_recall:.4f}  NDCG@8 {quality.ndcg8:.4f}"
    )
