"""A few examples for a tiny model, and a training that ends wherever one likes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from device_sim.companion.models.model import Message
from device_sim.finetuning.config import LoraConfig
from device_sim.finetuning.examples import Example
from personality_common.terminal.progress import Silent


def example(asked: str, answer: str) -> Example:
    return Example((Message("user", asked), Message("assistant", answer)))


TRAIN = [example(f"What is {n}?", f"It is {n}.") for n in ("one", "two", "the third", "four", "five")]
HELD_OUT = [example("What is six?", "It is six."), example("What is the end?", "It is the end.")]
REPLAY = [example("What is a boat?", "It floats."), example("Say yes.", "Yes, of course."),
          example("Who are you?", "I am the one."), example("Count.", "One, two, three.")]  # fmt: skip
CONFIG = LoraConfig(rank=2, alpha=4.0, learning_rate=1e-2, epochs=4, batch=2, patience=9)


class Killed(Exception):
    pass


class Killer(Silent):
    """Ends a training after so many steps, wherever it is."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.warned: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Any]:
        yield self

    def advance(self, done: int, figures: Mapping[str, str] | None = None) -> None:
        self.left -= done
        if self.left < 0 and done == 1:
            raise Killed

    def warn(self, message: str) -> None:
        self.warned.append(message)
