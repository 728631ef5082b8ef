"""Examples of calling tools: tools on offer, questions, and for each the call, or that no tool fits."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, Literal

from pretrain.lm.chat import Document, Turn, call_text, go_json, signature_text
from pretrain.lm.data.loosening import Piece, common_words, cut, loosened
from pretrain.lm.data.values import MAKERS, Value, Values, is_held_out

OFFERED: Final = 3
"""Tools; in training one, two or three."""
QUESTIONS: Final = 4
"""Of an example that trains: what is offered is read once for all of them. What is held out has one."""
MOST_CHARACTERS: Final = 820
"""Of an example that trains, which has fewer questions for it: a row of the demo's context holds it, nearly
always, and what is cut off a longer one would be learned without the tools."""
NONE_SHARE: Final = 0.2
"""Of held-out questions for which the right tool is not offered."""
TRAINED_NONE_SHARE: Final = 0.4
"""The same in training, where seldom is soon never."""
RESULT_SHARE: Final = 0.1
"""Of the calls after which the result comes, and an answer made of it."""
LOOSE_SHARE: Final = 0.4
"""Of the questions that train, which are phrasings taken apart."""
NONE_TEXT: Final = "No tool fits."
_OPENERS: Final = (
    "", "", "", "", "", "hey, ", "hi, ", "ok, ", "help me: ", "quick question: ", "hello! ",
    "now ", "well, ", "one thing: ", "next: ", "a question: ", "listen, ", "so, ",
)  # fmt: skip
_CLOSERS: Final = ("", "", "", ".", "?", " please", ", please", ", thanks", ", thank you", "!")
_TRIES: Final = 1_000


@dataclass(frozen=True)
class Tool:
    """A tool and what is said of it.

    Attributes:
        name, description: as offered.
        arguments: name -> kind of value.
        phrasings: how it is asked for.
        unseen: the same, never in training.
        result: what comes back: name -> kind of value; empty where no example shows it.
        answer: what the assistant makes of it; like a phrasing, with values in braces.
    """

    name: str
    description: str
    arguments: Mapping[str, str]
    phrasings: tuple[str, ...]
    unseen: tuple[str, ...]
    result: Mapping[str, str] = field(default_factory=dict)
    answer: str = ""

    @cached_property
    def signature(self) -> str:
        """Its line in a prompt."""
        types = {name: argument_type(kind) for name, kind in self.arguments.items()}
        return signature_text(self.name, self.description, types)


def argument_type(kind: str) -> str:
    """Of a kind of value, its type as JSON Schema calls it."""
    return "integer" if isinstance(MAKERS[kind](random.Random(0)), int) else "string"


@cache
def tools() -> tuple[Tool, ...]:
    """All of them, in the order of `tools.toml`."""
    text = Path(__file__).with_name("tools.toml").read_text(encoding="utf-8")
    return tuple(
        Tool(**{**entry, "phrasings": tuple(entry["phrasings"]), "unseen": tuple(entry["unseen"])})
        for entry in tomllib.loads(text)["tools"]
    )


def tool_documents(source: str, count: int, seed: int, held_out: float) -> Iterator[Document]:
    """Examples; the first ones are the same however many there are.

    Half of what is held out asks, in phrasings of training, about values that training never sees; the other
    half asks, about values of training, in phrasings that it never sees. What is asked for as a whole, all
    values of a call together, is in the second half another than in training, too.

    Args:
        source: of the mix.
        held_out: share of the examples that training must not see.
    """
    for number in range(count):
        yield _document(source, number, seed, held_out)


def _document(source: str, number: int, seed: int, held_out: float) -> Document:
    rng = random.Random(f"tools/{seed}/{number}")
    drawn = rng.random()
    unseen: Literal["value", "phrasing"] | None = (
        None if drawn >= held_out else "value" if drawn < held_out / 2 else "phrasing"
    )
    offered = rng.sample(tools(), OFFERED if unseen else rng.randint(1, OFFERED))
    turns = [Turn("tools", "\n".join(tool.signature for tool in offered), False)]
    for question in range(1 if unseen else QUESTIONS):
        more = list(_exchange(offered, Values(rng, unseen == "value", unseen is None), unseen))
        if question and sum(len(turn.text) for turn in (*turns, *more)) > MOST_CHARACTERS:
            break
        turns += more
    name = f"{source}/{number}"
    return Document(name, source, name, None, tuple(turns), unseen)


def _exchange(
    offered: Sequence[Tool], values: Values, unseen: Literal["value", "phrasing"] | None
) -> Iterator[Turn]:
    """A question, and what is said to it."""
    rng = values.rng
    fits = rng.random() >= (NONE_SHARE if unseen else TRAINED_NONE_SHARE)
    tool = rng.choice(offered if fits else [other for other in tools() if other not in offered])
    arguments = _arguments(tool, values, unseen)
    phrasing = rng.choice(tool.unseen if unseen == "phrasing" else tool.phrasings)
    if not unseen and rng.random() < LOOSE_SHARE:
        phrasing = loosened(_pieces()[phrasing, tool.name], rng)
    question = _question(phrasing, arguments, rng)
    yield Turn("user", question, False)
    if not fits:
        yield Turn("none", NONE_TEXT, True)
        return
    yield Turn("call", call_text(tool.name, arguments), True)
    if tool.result and rng.random() < RESULT_SHARE:
        result = {name: values.draw(kind) for name, kind in tool.result.items()}
        yield Turn("result", go_json(result), False)
        yield Turn("assistant", tool.answer.format_map(arguments | result), True)


@cache
def _pieces() -> Mapping[tuple[str, str], list[Piece]]:
    """Of each phrasing of a tool, by both."""
    common = common_words([tool.phrasings for tool in tools()])
    return {
        (phrasing, tool.name): cut(phrasing, common, len(set(tool.arguments.values())) < len(tool.arguments))
        for tool in tools()
        for phrasing in tool.phrasings
    }


def _arguments(tool: Tool, values: Values, unseen: str | None) -> dict[str, Value]:
    """Values of a call, no two the same; as a whole on the side that they are to be on."""
    for _ in range(_TRIES):
        found = {name: values.draw(kind) for name, kind in tool.arguments.items()}
        apart = is_held_out("call", call_text(tool.name, found)) == (unseen == "phrasing")
        if len(set(found.values())) == len(found) and (apart or unseen == "value"):
            return found
    raise AssertionError(f"{tool.name} has too few values")


def _question(phrasing: str, arguments: Mapping[str, Any], rng: random.Random) -> str:
    """A phrasing with its values, which stay as they are whatever is around them."""
    opener, closer = rng.choice(_OPENERS), rng.choice(_CLOSERS)
    text = opener + phrasing
    if rng.random() < 0.5 and not text.startswith("{"):
        text = text[0].upper() + text[1:]
    if phrasing.endswith("{text}"):
        # What is to be said word for word ends with the question.
        closer = ""
    return text.format_map(arguments) + closer
