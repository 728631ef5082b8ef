"""Questions that take several steps, with every step written out and an answer that can be checked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

from pretrain.lm.chat import Document, Turn
from pretrain.lm.data.values import Values, plural

ANSWER_MARK: Final = "Answer: "
"""What the last line of each answer begins with."""


def final_answer(text: str) -> str | None:
    """What an answer comes to; None where its last line does not say."""
    last = text.rstrip().rsplit("\n", 1)[-1]
    return last.removeprefix(ANSWER_MARK) if last.startswith(ANSWER_MARK) else None


def reasoning_documents(
    source: str, count: int, seed: int, held_out: float
) -> Iterator[tuple[Document, bool]]:
    """Questions and answers, and whether each is kept from training: it is then about names and numbers that
    training never sees.

    Args:
        source: of the mix.
        held_out: share of the documents that training must not see.
    """
    for number in range(count):
        rng = random.Random(f"reasoning/{seed}/{number}")
        unseen = rng.random() < held_out
        question, steps, answer = rng.choice(_KINDS)(Values(rng, unseen), rng)
        turns = (
            Turn("user", question, False),
            Turn("assistant", "\n".join([*steps, f"{ANSWER_MARK}{answer}"]), True),
        )
        name = f"{source}/{number}"
        yield Document(name, source, name, None, turns), unseen


_Made = tuple[str, list[str], str]


def _stock(values: Values, rng: random.Random) -> _Made:
    """A running total."""
    name, things = values.draw("person"), plural(str(values.draw("noun")))
    total = int(values.draw("count"))
    sentences, steps = [f"{name} has {total} {things}."], []
    for _ in range(rng.randint(2, 3)):
        amount, boxes = int(values.draw("count")), rng.randint(2, 9)
        before = total
        match rng.choice(("gets", "gives", "boxes")):
            case "gives" if amount < total:
                total -= amount
                sentences.append(f"{name} gives away {amount}.")
                steps.append(f"{before} - {amount} = {total}")
            case "boxes":
                total += boxes * amount
                sentences.append(f"{name} buys {boxes} boxes of {amount}.")
                steps += [f"{boxes} * {amount} = {boxes * amount}", f"{before} + {boxes * amount} = {total}"]
            case _:
                total += amount
                sentences.append(f"{name} gets {amount} more.")
                steps.append(f"{before} + {amount} = {total}")
    return " ".join([*sentences, f"How many {things} does {name} have now?"]), steps, str(total)


def _order(values: Values, rng: random.Random) -> _Made:
    """Who is first of several who are compared in pairs."""
    count = rng.randint(3, 4)
    names: list[str] = []
    while len(names) < count:
        name = str(values.draw("person"))
        if name not in names:
            names.append(name)
    word, most, least = rng.choice((("taller", "tallest", "shortest"), ("older", "oldest", "youngest")))
    pairs = [f"{a} is {word} than {b}" for a, b in pairwise(names)]
    told = pairs.copy()
    rng.shuffle(told)
    top = rng.random() < 0.5
    question = f"{'. '.join(told)}. Who is the {most if top else least}?"
    return question, [" > ".join(names)], names[0 if top else -1]


def _arrival(values: Values, rng: random.Random) -> _Made:
    """When somebody arrives who leaves at a time and takes so long in two parts."""
    name, start = values.draw("person"), str(values.draw("time"))
    ride, walk = int(values.draw("minutes")), int(values.draw("minutes"))
    hours, minutes = map(int, start.split(":"))
    total = hours * 60 + minutes + ride + walk
    end = f"{total // 60 % 24:02}:{total % 60:02}"
    question = (
        f"{name} leaves at {start}, rides for {ride} minutes and walks for {walk}. When does {name} arrive?"
    )
    together = ride + walk
    steps = [
        f"{ride} + {walk} = {together}",
        f"{together} minutes = {together // 60} h {together % 60} min",
        f"{start} + {together // 60} h {together % 60} min = {end}",
    ]
    return question, steps, end


def _purchase(values: Values, rng: random.Random) -> _Made:
    """What is left after buying several of one thing at a price."""
    name, thing = values.draw("person"), values.draw("noun")
    price, pieces = int(values.draw("count")), rng.randint(2, 9)
    cost = price * pieces
    purse = cost + int(values.draw("count"))
    question = (
        f"{name} has {purse} coins. Each {thing} costs {price} coins and {name} buys {pieces}. "
        f"How many coins does {name} keep?"
    )
    steps = [f"{pieces} * {price} = {cost}", f"{purse} - {cost} = {purse - cost}"]
    return question, steps, str(purse - cost)


_KINDS: Final[tuple[Callable[[Values, random.Random], _Made], ...]] = (_stock, _order, _arrival, _purchase)
