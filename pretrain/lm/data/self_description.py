"""What the model says of itself: the same few facts, asked for in many ways."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pretrain.lm.chat import Document, Turn


def self_documents(source: str, count: int, seed: int, name: str) -> Iterator[Document]:
    """Questions about the model, and answers; all train, since what is to be known cannot be held out.

    Args:
        source: of the mix.
        name: what the model calls itself.
    """
    topics = _topics()
    for number in range(count):
        rng = random.Random(f"self-description/{seed}/{number}")
        topic = rng.choice(topics)
        question = _cased(rng.choice(topic["openers"]) + rng.choice(topic["questions"]), rng)
        answer = " ".join(rng.choice(part) for part in topic["answer"])
        turns = (
            Turn("user", question.replace("{name}", name), False),
            Turn("assistant", answer.replace("{name}", name), True),
        )
        yield Document(f"{source}/{number}", source, source, None, turns)


def _cased(text: str, rng: random.Random) -> str:
    return text[0].upper() + text[1:] if rng.random() < 0.5 else text


@cache
def _topics() -> list[dict[str, Any]]:
    path = Path(__file__).with_name("self_description.toml")
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    return [{"openers": content["openers"], **topic} for topic in content["topics"]]
