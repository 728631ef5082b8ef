"""A model that learns one thing of its examples, how their answers end; and tasks that it never forgets."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from device_sim.capability.rules import Rules
from device_sim.capability.running import Scored
from device_sim.capability.suite import Suite, Task
from device_sim.night.engine import Prompted, Said
from device_sim.night.state import Epoch, Training
from personality_common.errors import DataError
from personality_common.files.atomic import write_json
from personality_common.registry.codec import Codec
from personality_common.registry.pointers import holds_kind
from personality_common.registry.registry import Registry
from personality_common.registry.together import add_kind
from personality_common.terminal.progress import Reporter

from .living import embed

BASE = "b" * 64


class TextCodec(Codec[str]):
    """A text as a version."""

    kind = "adapter"
    letter = "a"
    files: ClassVar[Mapping[str, int]] = {"adapter.txt": 1 << 20}

    def write(self, value: str, folder: Path) -> None:
        (folder / "adapter.txt").write_text(value)

    def read(self, files: Mapping[str, Path]) -> str:
        return files["adapter.txt"].read_text()

    def fingerprint(self, value: str) -> str:
        return hashlib.sha256(value.encode()).hexdigest()

    def check(self, value: str) -> None:
        if not isinstance(value, str):
            raise DataError("must be a text")


def small_suites(name: str) -> list[Suite]:
    def tasks(domain: str, count: int) -> list[Task]:
        return [Task(f"{domain}.{i}", f"task {i}", Rules(exact=("right",))) for i in range(count)]

    capability = [t for d in ("arithmetic", "facts") for t in tasks(d, 60)]
    return [
        Suite(name, tuple(capability)),
        Suite("probes", (*tasks("style", 40), *tasks("safety", 40))),
    ]


@dataclass
class Pretender:
    """See `Engine`.

    Attributes:
        harm: share of tasks that any adapter answers wrong.
        at: called with what is being done, before it is.
        trained: what each training was given; replayed: the same, of nobody's.
    """

    harm: float = 0.0
    at: Callable[[str], None] = lambda what: None
    base: str = BASE
    trained: list[tuple[list[Said], list[Said]]] = field(default_factory=list)
    replayed: list[list[Said]] = field(default_factory=list)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return embed(texts)

    def losses(self, adapter: Path | None, said: Sequence[Said]) -> list[float]:
        self.at("losses")
        end = _end(adapter)
        return [
            2.0
            + 0.1 * _draw(answer)
            - (1.0 if end and answer.endswith(end) else 0.0)
            - (0.5 if _words(asked.text) & _words(answer) else 0.0)
            for asked, answer in said
        ]

    def answers(self, adapter: Path | None, asked: Sequence[Prompted], max_tokens: int) -> list[str]:
        self.at("answers")
        end = _end(adapter)
        return [f"{one.text}, you say. {end}".strip() for one in asked]

    def run(self, adapter: Path | None, suite: Suite, reporter: Reporter) -> list[Scored]:
        self.at("run")
        wrong = self.harm if adapter else 0.0
        return [
            Scored(task, "wrong" if bad else "right", 0.0 if bad else 1.0)
            for task in suite.tasks
            for bad in [_draw(task.id) < wrong]
        ]

    def train(
        self,
        train: Sequence[Said],
        validation: Sequence[Said],
        replay: Sequence[Said],
        out: Path,
        work: Path,
        *,
        seed: int,
        minutes: float,
        reporter: Reporter,
    ) -> Training:
        self.trained.append((list(train), list(validation)))
        self.replayed.append(list(replay))
        for epoch in range(3):
            self.at(f"epoch {epoch}")
            if not (work / f"{epoch}.json").exists():
                write_json(work / f"{epoch}.json", {"epoch": epoch, "seed": seed})
        end, _ = Counter(answer.rsplit(" ", 2)[-1] for _, answer in train).most_common(1)[0]
        seen = hashlib.sha256(json.dumps([list(train), list(validation), seed]).encode()).hexdigest()
        out.write_text(json.dumps({"end": end, "seen": seen}))
        self.at("written")
        return Training((Epoch(3, 1.0, 1.2),), 3, 1000, 1.5, 1 << 20)

    def registry(self, store: Path, *, create: bool) -> Registry[Any] | None:
        path = store / "learned"
        if holds_kind(path, TextCodec.kind):
            return Registry(path, TextCodec())
        return add_kind(path, TextCodec(), {"base": BASE}, "") if create else None

    def value(self, adapter: Path) -> Any:
        return adapter.read_text()


def _end(adapter: Path | None) -> str:
    return "" if adapter is None else str(json.loads(adapter.read_text())["end"])


def _words(text: str) -> set[str]:
    """Those that say what a text is about."""
    return {word.strip(".,!").casefold() for word in text.split() if len(word) > 4}


def _draw(text: str) -> float:
    """From 0 to 1, by the text."""
    return hashlib.sha256(text.encode()).digest()[0] / 256
