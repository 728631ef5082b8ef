"""The training loop."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from personality_common.errors import ToolkitError
from personality_common.runs.checkpoints import Checkpoint, Checkpoints, Retention
from personality_common.runs.device import seed_everything
from personality_common.runs.keeping import choose, start_of, take_back
from personality_common.runs.optimizers import FusedAdamW
from personality_common.runs.schedule import one_cycle, set_learning_rate
from personality_common.runs.tracking import Track, untracked
from personality_common.terminal.progress import Reporter
from pretrain.character.config import (
    HEAD_WEIGHTS,
    HIDDEN_SHRINK,
    INPUT_SHRINK,
    WEIGHT_DECAY,
    TrainConfig,
)
from pretrain.character.losses import Gradient, loss
from pretrain.character.model import SeedModel, SkipModel, build_model
from pretrain.character.records import Examples
from pretrain.character.step import SeedStep, SkipStep, shrink

LOOK_EVERY: Final = 16
"""Steps between two looks at the loss, which takes as long as an optimizer's step."""


def fresh_model(config: TrainConfig, examples: Examples) -> SkipModel | SeedModel:
    """A network of the config's seed, standardised to the examples."""
    seed_everything(config.seed)
    model = build_model(config.model, examples.schema, config.drop)
    if isinstance(model, SkipModel):
        with torch.no_grad():
            model.standardize.fit(torch.from_numpy(examples.features))
    return model


def train(
    model: SkipModel | SeedModel,
    examples: Examples,
    held_out: Examples,
    config: TrainConfig,
    folder: Path,
    reporter: Reporter,
    track: Track = untracked,
) -> list[dict[str, Any]]:
    """Train a model in place, on one thread; a checkpoint after every epoch, in `folder`.

    Targets are the expected labels where the data have them, else the drawn ones. Going on from a checkpoint
    gives the bits of an uninterrupted run: what is drawn in an epoch depends on the seed and the epoch alone.

    Args:
        model: at its start, standardised to the training examples; on the CPU, where a network of this size
            trains faster than on a GPU.
        examples: to train with.
        held_out: measured after every epoch.
        config: epochs, batch size, learning rate, seed; `resume` takes up the newest checkpoint.
        folder: for checkpoints.
        reporter: hears of progress.
        track: hears of the history after each epoch.

    Returns:
        The history: an entry per epoch, and one (epoch 0) for the start.

    Raises:
        ToolkitError: the loss is not finite.
        OSError: a checkpoint cannot be written.
    """
    # Data: all of it in memory and standardised
    schema, rows = examples.schema, len(examples)
    gradient = Gradient(schema, HEAD_WEIGHTS)
    step_of = SkipStep(model, gradient) if isinstance(model, SkipModel) else SeedStep(model, gradient)
    with torch.no_grad():
        features, val_features = (
            step_of.keep(torch.from_numpy(part.features)) for part in (examples, held_out)
        )
    targets, val_targets = _targets(examples), _targets(held_out)

    # Optimizer and schedule
    optimizer = FusedAdamW(step_of.parameters(), lr=config.peak_lr, weight_decay=WEIGHT_DECAY[config.model])
    matrices = step_of.matrices()
    pulls = [pull[config.model][examples.expected is None] for pull in (INPUT_SHRINK, HIDDEN_SHRINK)]
    steps = config.epochs * math.ceil(rows / config.batch_size)

    # Where to begin
    step, epoch = 0, 0
    history: list[dict[str, Any]] = []
    checkpoints = Checkpoints(folder, count="epoch", metric="valloss", keep=Retention())
    at_start = start_of(step_of, config.keep)
    if config.resume and (checkpoint := checkpoints.restore(step_of, [optimizer], reporter)):
        step, epoch, history = checkpoint.step, checkpoint.position["epoch"], checkpoint.history
        reporter.say(f"resuming after epoch {epoch} of {config.epochs}")
    trained: dict[str, float] = {}
    batch = torch.empty_like(features[: config.batch_size])
    wanted = torch.empty_like(targets)

    with (
        torch.no_grad(),
        _one_thread(),
        reporter.stage("training", rows * config.epochs, "examples") as stage,
    ):
        stage.advance(rows * epoch)
        while True:
            # Evaluation comes before the steps, so that the start and the end are measured, too.
            if len(history) == epoch:
                val_loss = loss(step_of.outputs(val_features).T, val_targets.T, schema, HEAD_WEIGHTS).item()
                history.append({"epoch": epoch, **trained, "val_loss": val_loss})
                if epoch > 0:
                    checkpoints.save(
                        Checkpoint(step, {"epoch": epoch}, history), val_loss, step_of, [optimizer]
                    )
            track(history)
            if epoch == config.epochs:
                take_back(choose(history, "epoch", config.keep), step_of, at_start, checkpoints)
                step_of.finish()
                return history

            epoch += 1
            started = time.monotonic()
            # Not torch.manual_seed, which seeds devices of all kinds, for as long as a step takes.
            torch.default_generator.manual_seed(_drawn_from(config.seed, epoch))
            order = torch.randperm(rows)
            torch.index_select(targets, 1, order, out=wanted)
            loss_sum, looked = 0.0, 0
            for start in range(0, rows, config.batch_size):
                done = min(start + config.batch_size, rows)
                # [] takes seven times as long.
                x = torch.index_select(features, 0, order[start:done], out=batch[: done - start])
                target = wanted[:, start:done]
                flat = step_of.gradients(x, target)
                lr = one_cycle(step, steps, config.peak_lr)
                set_learning_rate(optimizer, lr)
                optimizer.step()
                shrink(matrices, [lr * pull for pull in pulls])
                step += 1

                figures: dict[str, str] = {}
                if step % LOOK_EVERY == 0 or done == rows:
                    loss_sum += loss(flat.T, target.T, schema, HEAD_WEIGHTS).item() * (done - start)
                    looked += done - start
                    mean = loss_sum / looked
                    if not math.isfinite(mean):
                        raise ToolkitError(
                            f"the loss must stay finite, is {mean} by step {step}, in epoch {epoch}; "
                            "use a smaller --lr"
                        )
                    figures = {"epoch": str(epoch), "loss": f"{mean:.4f}"}
                stage.advance(done - start, figures)

            seconds = time.monotonic() - started
            trained = {
                "train_loss": mean,
                "learning_rate": lr,
                "seconds": round(seconds, 3),
                "samples_per_second": round(rows / seconds, 1),
            }


def _targets(examples: Examples) -> Tensor:
    """(size, n): expected labels where they are known, else the drawn ones."""
    targets = examples.labels if examples.expected is None else examples.expected
    return torch.from_numpy(targets).T.contiguous()


def _drawn_from(seed: int, epoch: int) -> int:
    """The seed of what is drawn in an epoch: order and dropout."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Several threads wait for one another longer than such small products take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
