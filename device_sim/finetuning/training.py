"""Training of an adapter: always from the base, never on top of another adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_sim.adapters.adapter import Adapter
from device_sim.finetuning.config import LoraConfig
from device_sim.finetuning.examples import Example
from device_sim.finetuning.torch_base import TorchBase
from personality_common.terminal.progress import SILENT, Reporter


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
) -> Trained:
    """Train an adapter; the same base, examples, config and number of threads give the same bytes.

    Args:
        work: checkpoints; a killed training goes on from there, bit for bit, when it is called the same way.
            Checkpoints of another training are removed.

    Raises:
        DataError: nothing to train on.
    """
    raise NotImplementedError
