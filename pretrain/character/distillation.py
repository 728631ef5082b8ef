"""Soft labels where the data has only drawn ones: what several networks, trained on these, expect on average.

A drawn label says what happened, once. A network that is trained on such learns their luck with the rule
behind them, each its own share of it; the mean of several has less of it, and one network can learn the mean.

Source: Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

import numpy as np

from personality_common.terminal.progress import Reporter
from pretrain.character.calibration import fit_temperatures, probabilities
from pretrain.character.config import TrainConfig
from pretrain.character.records import Examples
from pretrain.character.run import outputs
from pretrain.character.training import fresh_model, train

TEACHERS: Final = 4


def distilled(
    examples: Examples, held_out: Examples, config: TrainConfig, folder: Path, reporter: Reporter
) -> tuple[Examples, Examples]:
    """Both sets of examples, with what TEACHERS networks expect as their expected labels.

    Args:
        examples: to train with; drawn labels alone.
        held_out: measured after every epoch; temperatures are fitted on it.
        config: as of `train`; each teacher has a seed of its own, drawn from the run's.
        folder: for their checkpoints, a folder each, in which `config.resume` finds those that are finished.

    Raises:
        ToolkitError, OSError: as `train`.
    """
    both = (examples, held_out)
    sums = [np.zeros(part.labels.shape) for part in both]
    for number in range(TEACHERS):
        seed = int(np.random.SeedSequence((config.seed, TEACHERS, number)).generate_state(1)[0])
        own = dataclasses.replace(config, seed=seed)
        reporter.say(f"teacher {number + 1} of {TEACHERS}")
        model = fresh_model(own, examples)
        train(model, examples, held_out, own, folder / f"teacher_{number + 1}", reporter)
        temperatures = fit_temperatures(outputs(model, held_out.features), held_out.labels, examples.schema)
        for total, part in zip(sums, both, strict=True):
            total += probabilities(outputs(model, part.features), part.schema, temperatures)
    soft, held = (
        dataclasses.replace(part, expected=(total / TEACHERS).astype(np.float32))
        for total, part in zip(sums, both, strict=True)
    )
    return soft, held
