"""Where a killed run goes on: weights, and all else that the next step depends on.

    epoch_2_valloss_0.019409.safetensors         the weights, by the module's names
    epoch_2_valloss_0.019409.state.safetensors   optimizer state, by the parameters' names; what torch's
                                                 generators draw next; step, place in the data and history

A name says how far training was, in what the trainer counts in, and how good.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from personality_common.errors import DataError, MismatchError
from personality_common.files.tensors import load_into, load_tensors, save_tensors
from personality_common.runs.optimizers import Optimizer
from personality_common.terminal.progress import Reporter

_STATE: Final = ".state.safetensors"
_STATE_BYTES: Final = 8
"""Bytes of state per byte of weights, at most; AdamW needs 2, or 4 where the weights are in bfloat16."""
_HEADER_BYTES: Final = 128 << 20
"""safetensors itself refuses a header, where the history is, of more than 100 MB."""


@dataclass(frozen=True)
class Checkpoint:
    """Where training stands; the tensors are in the module and its optimizers.

    Attributes:
        step: optimizer steps done; the schedule's position.
        position: in the data, as the trainer counts it: {"epoch": 2}, {"tokens": 81920}.
        history: an entry per evaluation.
    """

    step: int
    position: dict[str, int]
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay when a new one is there.

    Attributes:
        last: newest ones, 1 or more; with 2, a damaged one has one before it.
        best: those with the lowest metric, of equals the later.
        every: each whose count divides by this, too.
    """

    last: int = 2
    best: int = 1
    every: int | None = None


class _Found(NamedTuple):
    number: int
    metric: float
    weights: Path


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run; among several processes, the leader alone saves.

    Attributes:
        folder: theirs alone.
        count: what names count: "step", or an entry of the position.
        metric: what names say of the quality; lower is better.
        keep: None keeps all.
    """

    folder: Path
    count: str
    metric: str
    keep: Retention | None = None

    def save(
        self, checkpoint: Checkpoint, value: float, module: nn.Module, optimizers: Sequence[Optimizer]
    ) -> None:
        """Write a checkpoint; remove those that need not stay, and what a kill left half-written.

        The weights come last, so that where they are, the rest is too. Generators are this process's: what
        others draw must follow from the seed, their rank and the position alone.

        Args:
            value: of the metric, finite.

        Raises:
            OSError: cannot be written.
        """
        number = {"step": checkpoint.step, **checkpoint.position}[self.count]
        weights = self._weights(number, value)
        names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
        state: dict[str, Tensor] = {
            f"optimizer/{names[parameter]}/{entry}": tensor
            for optimizer in optimizers
            for parameter, entries in optimizer.state.items()
            for entry, tensor in entries.items()
        }
        state |= {f"random/{name}": torch_.get_rng_state() for name, torch_ in _generators(module).items()}
        save_tensors(_state_file(weights), state, {"checkpoint": json.dumps(asdict(checkpoint))})
        save_tensors(weights, module.state_dict())
        self._clean()

    def restore(
        self, module: nn.Module, optimizers: Sequence[Optimizer], reporter: Reporter
    ) -> Checkpoint | None:
        """Take up the last checkpoint that is whole; a damaged one is reported and passed over.

        Training from an earlier checkpoint gives the same bits, only later.

        Args:
            module: gets the weights, all or none.
            optimizers: of its parameters, each in one of them; get their state, but not the learning rate,
                which is the schedule's.
        """
        for found in reversed(self._found()):
            try:
                return _restore(found.weights, module, optimizers)
            except (DataError, MismatchError) as error:
                reporter.warn(f"{error}; going on from the checkpoint before it")
        return None

    def load(self, number: int, value: float, module: nn.Module) -> None:
        """Give a module the weights of one checkpoint.

        Args:
            number: in what names count.
            value: of the metric.

        Raises:
            DataError: it is damaged, or not there.
        """
        load_into(module, self._weights(number, value))

    def _weights(self, number: int, value: float) -> Path:
        return self.folder / f"{self.count}_{number}_{self.metric}_{value:.6f}.safetensors"

    def _found(self) -> list[_Found]:
        """By count; files with other names are not ours."""
        name = re.compile(rf"{self.count}_(\d+)_{self.metric}_(-?\d+\.\d+)\.safetensors")
        matches = [(name.fullmatch(path.name), path) for path in self.folder.glob("*.safetensors")]
        return sorted(_Found(int(match[1]), float(match[2]), path) for match, path in matches if match)

    def _clean(self) -> None:
        found = self._found()
        kept = set(found)
        if self.keep is not None:
            best = sorted(found, key=lambda one: (one.metric, -one.number))
            kept = {*found[-self.keep.last :], *best[: self.keep.best]}
            kept |= {one for one in found if self.keep.every and one.number % self.keep.every == 0}
        for one in set(found) - kept:
            one.weights.unlink()
        states = {_state_file(one.weights) for one in kept}
        for path in self.folder.iterdir():
            if path.name.startswith(".") or (path.name.endswith(_STATE) and path not in states):
                path.unlink()


def _restore(weights: Path, module: nn.Module, optimizers: Sequence[Optimizer]) -> Checkpoint:
    path = _state_file(weights)
    parameters = dict(module.named_parameters())
    most = _HEADER_BYTES + _STATE_BYTES * sum(p.nbytes for p in parameters.values())
    tensors, metadata = load_tensors(path, most)
    try:
        checkpoint = Checkpoint(**json.loads(metadata["checkpoint"]))
        state = _by_parameter(tensors, parameters)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not the state of a checkpoint of this model: {error!r:.200}") from None
    # From here on all of it fits, or nothing has changed.
    load_into(module, weights)
    for optimizer in optimizers:
        groups = optimizer.state_dict()["param_groups"]
        own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        indexed = {i: state[parameter] for i, parameter in enumerate(own) if parameter in state}
        optimizer.load_state_dict({"state": indexed, "param_groups": groups})
    for name, torch_ in _generators(module).items():
        if f"random/{name}" in tensors:  # absent where it was saved on another device
            torch_.set_rng_state(tensors[f"random/{name}"])
    return checkpoint


def _by_parameter(
    tensors: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]
) -> dict[nn.Parameter, dict[str, Tensor]]:
    """The optimizers' state; an entry is of its parameter's shape, or a number, or ValueError."""
    state: dict[nn.Parameter, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        name, _, entry = rest.rpartition("/")
        if kind == "optimizer":
            if tensor.shape not in (parameters[name].shape, torch.Size()):
                raise ValueError(f"{key} has the shape {tuple(tensor.shape)}")
            state.setdefault(parameters[name], {})[entry] = tensor
    return state


def _state_file(weights: Path) -> Path:
    return weights.with_suffix(_STATE)


def _generators(module: nn.Module) -> dict[str, Any]:
    """What draws: torch's own generator, and that of the module's device."""
    device = next(module.parameters()).device.type
    return {"cpu": torch} | ({device: torch.get_device_module(device)} if device != "cpu" else {})
