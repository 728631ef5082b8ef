"""Training of an adapter: always from the base, never on top of another adapter.

    WORK/0123456789abcdef/step_20_loss_1.234567.safetensors   checkpoints of one training
    WORK/0123456789abcdef/best.safetensors                    the adapter of the best epoch so far

The folder's name is of all that the training depends on, so that another training never goes on from it.
"""

from __future__ import annotations

import hashlib
import json
import math
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from device_sim.adapters.adapter import ARCHITECTURE, Adapter
from device_sim.finetuning.config import LoraConfig
from device_sim.finetuning.examples import Example, Row
from device_sim.finetuning.gradients import Gradients
from device_sim.finetuning.torch_base import TorchBase
from device_sim.finetuning.torch_gradients import torch_gradients
from personality_common.errors import DataError, ToolkitError
from personality_common.files.atomic import folder_lock
from personality_common.files.tensors import load_tensors, save_tensors
from personality_common.runs.checkpoints import Checkpoint, Checkpoints, Retention
from personality_common.terminal.progress import SILENT, Reporter

LONGEST_ROW: Final = 1024
"""Tokens; memory grows with them, and a night has many."""
WARM_UP: Final = 0.1
"""Share of the steps in which the learning rate rises."""
CLIP: Final = 1.0
"""Norm of the gradient, at most."""
BEST_FILE: Final = "best.safetensors"


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        adapter: of the epoch with the lowest held-out loss; of the last where nothing was held out.
        history: an entry per epoch: step, train_loss, held_out_loss (None: nothing is held out), seconds.
        best_step: optimizer steps behind the adapter.
        tokens: that were trained on, each epoch's counted.
        seconds: of training, over all resumptions; by the clock.
        peak_bytes: most memory of this process.
    """

    adapter: Adapter
    history: tuple[Mapping[str, Any], ...]
    best_step: int
    tokens: int
    seconds: float
    peak_bytes: int


def train_adapter(
    base: TorchBase,
    train: Sequence[Example],
    held_out: Sequence[Example],
    config: LoraConfig,
    work: Path,
    reporter: Reporter = SILENT,
    *,
    replay: Sequence[Example] = (),
) -> Trained:
    """Train an adapter; the same base, examples, config and number of threads give the same bytes.

    Beside the examples of each step as many of `replay` are read, and the model is held to what the base
    makes of them: the loss has KL(base || adapted), averaged over all their tokens, those of the prompt, too.
    Unlike the loss of the answers it is 0 at the start, and keeps what the base would have said second.

    AdamW without weight decay; the learning rate rises over a tenth of the steps and falls linearly to 0.
    After each epoch the held-out loss is measured in float32, the adapter kept if it is the best, and a
    checkpoint written.

    Args:
        replay: with the base's own answers.
        work: checkpoints; a killed training goes on from there, bit for bit, when it is called the same way.
            Checkpoints of another training are removed. The caller removes the folder in the end.

    Raises:
        DataError: nothing to train on.
        ToolkitError: the loss is no longer finite; another process trains in the folder.
    """
    rows, tests, kept = (_fitting(base.rows(part), reporter) for part in (train, held_out, replay))
    if not rows:
        raise DataError("there must be an example to train on, there is none")
    folder = work / _fingerprint(base, rows, tests, kept, config)
    with folder_lock(work), torch.random.fork_rng(devices=[]):
        for other in work.iterdir():
            if other.is_dir() and other != folder:
                shutil.rmtree(other)
        folder.mkdir(exist_ok=True)
        torch.manual_seed(config.seed)
        with _backend(config)(base, kept, config) as gradients:
            return _Training(base, gradients, rows, tests, kept, config, folder).run(reporter)


def _backend(config: LoraConfig) -> Callable[..., AbstractContextManager[Gradients]]:
    if config.backend == "torch":
        return torch_gradients
    from device_sim.finetuning.mlx_gradients import mlx_gradients

    return mlx_gradients


class _Lora(nn.Module):
    """The parameters that learn, under the names of the adapter's tensors, for their checkpoints."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        for name, parameter in parameters.items():
            # A module's parameter has no dots in its name.
            self.register_parameter(name.replace(".", ":"), parameter)

    def tensors(self) -> dict[str, Tensor]:
        return {name.replace(":", "."): parameter.detach() for name, parameter in self.named_parameters()}


class _Training:
    def __init__(
        self,
        base: TorchBase,
        gradients: Gradients,
        rows: Sequence[Row],
        tests: Sequence[Row],
        replay: Sequence[Row],
        config: LoraConfig,
        folder: Path,
    ) -> None:
        self.base, self.gradients, self.rows, self.tests, self.replay = base, gradients, rows, tests, replay
        self.config, self.folder = config, folder
        self.lora = _Lora(gradients.parameters)
        self.optimizer = torch.optim.AdamW(self.lora.parameters(), lr=config.learning_rate, weight_decay=0.0)
        self.checkpoints = Checkpoints(folder, "step", "loss", Retention(last=2, best=0))
        self.steps_an_epoch = -(-len(rows) // config.batch)

    def run(self, reporter: Reporter) -> Trained:
        config = self.config
        at = self.checkpoints.restore(self.lora, [self.optimizer], reporter) or Checkpoint(
            0, {"epoch": 0, "tokens": 0}, []
        )
        step, tokens, history = at.step, at.position["tokens"], list(at.history)
        before = float(history[-1]["seconds"]) if history else 0.0
        start = time.monotonic()
        with reporter.stage("adapter", config.epochs * self.steps_an_epoch, "steps") as stage:
            stage.advance(step)
            for epoch in range(at.position["epoch"], config.epochs):
                if history and _is_over(history, before + time.monotonic() - start, config):
                    break
                losses = []
                for batch, kept in zip(self._batches(epoch), self._replayed(epoch), strict=True):
                    losses.append(self._step(batch, kept, step))
                    step += 1
                    tokens += sum(len(row.ids) for row in (*batch, *(self.replay[i] for i in kept)))
                    stage.advance(1, {"loss": f"{losses[-1]:.3f}"})
                entry = {
                    "step": step,
                    "train_loss": math.fsum(losses) / len(losses),
                    "held_out_loss": self._held_out(),
                    "seconds": before + time.monotonic() - start,
                }
                history.append(entry)
                if _best(history) is entry:
                    save_tensors(self.folder / BEST_FILE, self.lora.tensors())
                position = {"epoch": epoch + 1, "tokens": tokens}
                self.checkpoints.save(
                    Checkpoint(step, position, history), _judged(entry), self.lora, [self.optimizer]
                )
        tensors, _ = load_tensors(self.folder / BEST_FILE)
        adapter = Adapter(
            config.rank, config.alpha, self.base.sha256, ARCHITECTURE, self.base.heads, self.base.kv_heads,
            {name: tensor.numpy() for name, tensor in tensors.items()},
        )  # fmt: skip
        best = int(_best(history)["step"])
        seconds = float(history[-1]["seconds"])
        return Trained(adapter, tuple(history), best, tokens, seconds, _peak_bytes())

    def _batches(self, epoch: int) -> list[list[Row]]:
        """The rows in an order that follows from seed and epoch alone."""
        order, size = self._order(len(self.rows), epoch + 1), self.config.batch
        return [[self.rows[i] for i in order[at : at + size]] for at in range(0, len(order), size)]

    def _replayed(self, epoch: int) -> list[list[int]]:
        """What is replayed beside each batch: all of it once, in an order by chance, then all of it again."""
        n, size = len(self.replay), self.config.batch
        every = range(epoch * len(self.rows), (epoch + 1) * len(self.rows)) if n else range(0)
        drawn = [self._order(n, -1 - number // n)[number % n] for number in every]
        return [drawn[at : at + size] for at in range(0, len(self.rows), size)]

    def _order(self, count: int, number: int) -> list[int]:
        draw = torch.Generator().manual_seed(self.config.seed + 1_000_003 * number)
        return [int(i) for i in torch.randperm(count, generator=draw)]

    def _step(self, batch: Sequence[Row], kept: Sequence[int], step: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._schedule(step)
        loss = self.gradients.step(batch, kept)
        nn.utils.clip_grad_norm_(self.lora.parameters(), CLIP)
        self.optimizer.step()
        if not math.isfinite(loss):
            raise ToolkitError(
                f"the loss must be finite, is {loss} after {step} steps; take a lower learning rate"
            )
        return loss

    def _schedule(self, step: int) -> float:
        steps = self.config.epochs * self.steps_an_epoch
        rise = max(1, round(WARM_UP * steps))
        return min((step + 1) / rise, (steps - step) / max(1, steps - rise))

    def _held_out(self) -> float | None:
        if not self.tests:
            return None
        losses = self.gradients.losses(self.tests)
        return math.fsum(losses) / len(losses)


def _fitting(rows: Sequence[Row], reporter: Reporter) -> list[Row]:
    fitting = [row for row in rows if len(row.ids) <= LONGEST_ROW]
    if len(fitting) < len(rows):
        reporter.warn(f"{len(rows) - len(fitting)} examples of more than {LONGEST_ROW:,} tokens are left out")
    return fitting


def _fingerprint(
    base: TorchBase, rows: Sequence[Row], tests: Sequence[Row], replay: Sequence[Row], config: LoraConfig
) -> str:
    content = [
        base.sha256,
        *([asdict(row) for row in part] for part in (rows, tests, replay)),
        asdict(replace(config, minutes=None)),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _judged(entry: Mapping[str, Any]) -> float:
    """What an epoch is judged by."""
    return float(entry["train_loss"] if entry["held_out_loss"] is None else entry["held_out_loss"])


def _best(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The epoch with the lowest held-out loss, of equals the first; the last where nothing is held out."""
    if history[-1]["held_out_loss"] is None:
        return history[-1]
    return min(history, key=_judged)


def _is_over(history: Sequence[Mapping[str, Any]], seconds: float, config: LoraConfig) -> bool:
    """Whether another epoch would take too long, or the best one is too long ago."""
    since = len(history) - 1 - history.index(_best(history))
    another = seconds * (1 + 1 / len(history))
    return since >= config.patience or (config.minutes is not None and another > 60 * config.minutes)


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
