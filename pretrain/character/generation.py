"""`pt character data`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from personality_common.errors import ConfigError
from personality_common.files.staging import staged_folder
from personality_common.terminal.progress import Reporter, Stage
from pretrain.character.coherence import LEAST
from pretrain.character.config import DataConfig
from pretrain.character.descriptors import archetypes
from pretrain.character.records import Example, write_examples
from pretrain.character.schema import load_schema
from pretrain.character.synthesis import generate

EXAMPLES_FILE: Final = "examples.jsonl"
UNSEEN_FILE: Final = "unseen.jsonl"
"""Examples of characters that are in none of the others: only ever measured."""
MOST_UNSEEN: Final = 40
TOLD_EVERY: Final = 500
"""Examples between two words of progress."""


@dataclass(frozen=True)
class DataResult:
    """What was written: folder, manifest of the examples, and how many are of unseen archetypes."""

    folder: Path
    manifest: dict[str, Any]
    unseen: int


def generate_data(config: DataConfig, reporter: Reporter) -> DataResult:
    """Write a folder of examples; what was there is replaced once all is written.

    Raises:
        ConfigError: more archetypes than there are, or the folder holds something else.
        OSError: no space, no permission.
    """
    schema = load_schema(config.schema)
    people = list(archetypes())
    if config.archetypes > len(people):
        raise ConfigError(f"--archetypes must be at most {len(people)}, got {config.archetypes}")
    if config.out.exists() and not (config.out / EXAMPLES_FILE).is_file():
        raise ConfigError(f"--out must be a new folder or one of pt character data, {config.out} is not")
    random.Random(f"archetypes/{config.seed}").shuffle(people)
    seen = sorted(people[: config.archetypes])
    unseen = sorted(people[config.archetypes :][:MOST_UNSEEN])
    counts = {EXAMPLES_FILE: config.examples, UNSEEN_FILE: config.examples // 5 if len(unseen) > 1 else 0}
    manifests = {}
    with staged_folder(config.out) as folder:
        for (name, count), names in zip(counts.items(), (seen, unseen), strict=True):
            if count:
                with reporter.stage(name, count, "examples") as stage:
                    found = _counted(generate(names, count, config.seed, schema), stage)
                    manifests[name] = write_examples(folder / name, found, schema, config.seed, LEAST)
    return DataResult(config.out, manifests[EXAMPLES_FILE], counts[UNSEEN_FILE])


def _counted(examples: Iterator[Example], stage: Stage) -> Iterator[Example]:
    for number, example in enumerate(examples, 1):
        yield example
        if number % TOLD_EVERY == 0:
            stage.advance(TOLD_EVERY)
