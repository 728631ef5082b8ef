"""One question, answered under each perspective's tag, with facts that are computed."""

from __future__ import annotations

import math
import random
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from pretrain.lm.chat import PERSPECTIVES, Document, Turn
from pretrain.lm.data.values import Value, Values

GRAVITY: Final = 9.81
"""Metres per second squared."""
SPEED_OF_SOUND: Final = 343.0
"""Metres per second, in air at 20 degrees Celsius."""
PLANCK: Final = 6.626_070_15e-34
"""Joule seconds."""
BOLTZMANN: Final = 1.380_649e-23
"""Joules per kelvin."""

Facts = dict[str, Value]


def perspective_documents(
    source: str, count: int, seed: int, held_out: float
) -> Iterator[tuple[Document, bool]]:
    """Documents, six to a question, and whether each is kept from training: its question is then about names
    and numbers that training never sees.

    Args:
        source: of the mix.
        count: of documents; the last question may have fewer than six.
        held_out: share of the questions that training must not see.
    """
    for number in range(count):
        asked, which = divmod(number, len(PERSPECTIVES))
        rng = random.Random(f"perspectives/{seed}/{asked}")
        unseen = rng.random() < held_out
        name, kind = rng.choice(list(kinds().items()))
        drawn = {slot: Values(rng, unseen).draw(of) for slot, of in kind["values"].items()}
        question = rng.choice(kind["questions"])
        perspective = PERSPECTIVES[which]
        facts = drawn | FACTS[name](drawn)
        answer = " ".join(
            random.Random(f"perspectives/{seed}/{number}/{part}").choice(sentences)
            for part, sentences in enumerate(kind[perspective])
        )
        turns = (
            Turn("user", question.format_map(facts), False),
            Turn("assistant", answer.format_map(facts), True),
        )
        yield Document(f"{source}/{number}", source, f"{source}/{asked}", perspective, turns), unseen


@cache
def kinds() -> Mapping[str, Mapping[str, Any]]:
    """Kinds of question, by name, as in `perspectives.toml`."""
    path = Path(__file__).with_name("perspectives.toml")
    found: Mapping[str, Mapping[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["kinds"]
    return found


def _fall(drawn: Facts) -> Facts:
    height = int(drawn["height"])
    seconds = math.sqrt(2 * height / GRAVITY)
    speed = GRAVITY * seconds
    return {
        "seconds": _decimal(seconds),
        "speed": _decimal(speed),
        "energy": _decimal(GRAVITY * height),
        "wavelength": _scientific(PLANCK / speed),
    }


def _echo(drawn: Facts) -> Facts:
    path = 2 * int(drawn["distance"])
    return {
        "path": path,
        "seconds": _decimal(path / SPEED_OF_SOUND),
        "quantum": _scientific(PLANCK * int(drawn["hertz"])),
    }


def _pendulum(drawn: Facts) -> Facts:
    length = int(drawn["length"])
    seconds = 2 * math.pi * math.sqrt(length / 100 / GRAVITY)
    return {"seconds": _decimal(seconds), "longer": 4 * length, "quantum": _scientific(PLANCK / seconds)}


def _cooling(drawn: Facts) -> Facts:
    gap = int(drawn["gap"])
    return {
        "half": _decimal(gap / 2),
        "quarter": _decimal(gap / 4),
        "twice": 2 * int(drawn["minutes"]),
        # Half of kT for each degree of freedom.
        "thermal": _scientific(BOLTZMANN * gap / 2),
    }


def _doubling(drawn: Facts) -> Facts:
    count = int(drawn["count"])
    return {"double": 2 * count, "eight": 8 * count, "thrice": 3 * int(drawn["minutes"])}


def _lever(drawn: Facts) -> Facts:
    mass, ratio = int(drawn["mass"]), int(drawn["ratio"])
    # Heisenberg: the spreads of place and momentum are together at least h / 4 pi.
    spread = PLANCK / (4 * math.pi) / 1e-9 / mass
    return {"push": _decimal(mass / ratio), "way": 10 * ratio, "spread": _scientific(spread)}


def _decimal(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _scientific(value: float) -> str:
    return f"{value:.1e}"


FACTS: Final[Mapping[str, Callable[[Facts], Facts]]] = {
    "fall": _fall,
    "echo": _echo,
    "pendulum": _pendulum,
    "cooling": _cooling,
    "doubling": _doubling,
    "lever": _lever,
}
