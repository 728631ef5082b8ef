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
from pretrain.character.calibration import isotonic, probabilities
from pretrain.character.config import TrainConfig
from pretrain.character.records import Examples, subset
from pretrain.character.run import outputs
from pretrain.character.split import folds
from pretrain.character.training import fresh_model, train

TEACHERS: Final = 4


def distilled(
    examples: Examples, held_out: Examples, config: TrainConfig, folder: Path, reporter: Reporter
) -> tuple[Examples, Examples]:
    """Both sets of examples, with what TEACHERS networks expect as their expected labels.

    Args:
        examples: to train with; drawn labels alone.
        held_out: measured after every epoch; no teacher trains on it.
        config: as of `train`; each teacher has a seed of its own, drawn from the run's.
        folder: for their checkpoints, a folder each, in which `config.resume` finds those that are finished.

    Raises:
        DataError: too few cells or archetypes to divide.
        ToolkitError, OSError: as `train`.
    """
    both = (examples, held_out)
    features = np.concatenate([part.features for part in both])
    labels = np.concatenate([part.labels for part in both])
    total = np.zeros(labels.shape)
    everything, held = np.arange(len(examples)), np.arange(len(examples), len(features))
    for number, left_out in enumerate(folds(examples, config.split, TEACHERS, config.seed)):
        seed = int(np.random.SeedSequence((config.seed, TEACHERS, number)).generate_state(1)[0])
        own = dataclasses.replace(config, seed=seed, keep="last")
        reporter.say(f"teacher {number + 1} of {TEACHERS}")
        training = subset(examples, np.setdiff1d(everything, left_out))
        model = fresh_model(own, training)
        train(model, training, held_out, own, folder / f"teacher_{number + 1}", reporter)
        found = probabilities(outputs(model, features), examples.schema, {})
        untrained = np.concatenate([left_out, held])
        total += isotonic(found[untrained], labels[untrained], found, examples.schema)
    means = np.split((total / TEACHERS).astype(np.float32), [len(examples)])
    soft, measured = (
        dataclasses.replace(part, expected=mean) for part, mean in zip(both, means, strict=True)
    )
    return soft, measured
