"""What a model answers, decoded greedily: calls of tools, results of reasoning, samples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from personality_common.terminal.progress import Stage
from pretrain.lm.chat import END_ID, ROLE_TOKENS, SPECIAL_IDS, Document, render
from pretrain.lm.data.reasoning import final_answer
from pretrain.lm.model import Decoder, generate
from pretrain.lm.tokenizer import Tokenizer

MOST_TOKENS: Final = 200
"""Of an answer."""
SAMPLE_TOKENS: Final = 60
SAMPLE_WORDS: Final = 8
"""Of a plain text, that a sample goes on from."""
CALL, NONE = (SPECIAL_IDS[ROLE_TOKENS[role]] for role in ("call", "none"))


@dataclass(frozen=True)
class Calls:
    """Of prompts that one of the tools on offer is for.

    Attributes:
        examples: prompts.
        exact: share of the answers that are the right call, to the byte.
        tool: share that call the right tool.
        valid: of the answers that are calls, the share whose JSON names a tool on offer and all its arguments
            and no others; None without any.
        abstained: share that say that no tool fits.
    """

    examples: int
    exact: float
    tool: float
    valid: float | None
    abstained: float


@dataclass(frozen=True)
class Share:
    """How many examples there were, and the share of the answers that are right."""

    examples: int
    right: float


@dataclass(frozen=True)
class Sample:
    """Of a source, what a held-out document begins with, and how the model goes on."""

    source: str
    prompt: str
    text: str


def before(document: Document, turn: int) -> Document:
    """The conversation up to a turn."""
    return replace(document, turns=document.turns[:turn])


def asked_turn(document: Document) -> int | None:
    """Index of the first turn that calls a tool or says that none fits; None without one."""
    return next((i for i, turn in enumerate(document.turns) if turn.role in ("call", "none")), None)


def answer(model: Decoder, tokenizer: Tokenizer, prompt: Document) -> tuple[int | None, str]:
    """What the assistant says next: its first token, if that is `<|invoke|>` or `<|none|>`, and the text."""
    ids = list(generate(model, tokenizer.encode_prompt(prompt), MOST_TOKENS, (END_ID,)))
    mark = ids[0] if ids and ids[0] in (CALL, NONE) else None
    return mark, tokenizer.decode(ids if mark is None else ids[1:])


def measure_calls(
    model: Decoder, tokenizer: Tokenizer, documents: Iterable[Document], stage: Stage
) -> Calls | None:
    """Of documents in which a tool is called; None without any."""
    rows: list[tuple[bool, bool, bool | None, bool]] = []
    for document in documents:
        turn = asked_turn(document)
        assert turn is not None
        mark, text = answer(model, tokenizer, before(document, turn))
        wanted, called = document.turns[turn].text, mark == CALL
        offered = [other.text for other in document.turns[:turn] if other.role == "tools"]
        valid = is_valid_call(text, "\n".join(offered)) if called else None
        right_tool = called and _name(text) == _name(wanted)
        rows.append((called and text == wanted, right_tool, valid, mark == NONE))
        stage.advance(1)
    if not rows:
        return None
    exact, tool, valids, abstained = zip(*rows, strict=True)
    calls = [valid for valid in valids if valid is not None]
    return Calls(len(rows), _mean(exact), _mean(tool), _mean(calls) if calls else None, _mean(abstained))


def measure_abstention(
    model: Decoder, tokenizer: Tokenizer, documents: Iterable[Document], stage: Stage
) -> Share | None:
    """Of documents in which no tool on offer fits: the share that is answered so; None without any."""
    right = []
    for document in documents:
        turn = asked_turn(document)
        assert turn is not None
        right.append(answer(model, tokenizer, before(document, turn))[0] == NONE)
        stage.advance(1)
    return Share(len(right), _mean(right)) if right else None


def measure_reasoning(
    model: Decoder, tokenizer: Tokenizer, documents: Iterable[Document], stage: Stage
) -> Share | None:
    """Of documents whose last turn ends in an answer: the share of the same answers; None without any."""
    right = []
    for document in documents:
        prompt = before(document, len(document.turns) - 1)
        wanted = final_answer(document.turns[-1].text)
        right.append(final_answer(answer(model, tokenizer, prompt)[1]) == wanted)
        stage.advance(1)
    return Share(len(right), _mean(right)) if right else None


def sample(model: Decoder, tokenizer: Tokenizer, document: Document) -> Sample:
    """How the model goes on from a document's beginning: before the last thing it is to say."""
    last = max(i for i, turn in enumerate(document.turns) if turn.loss)
    if document.turns[0].role == "text":
        words = " ".join(document.turns[0].text.split()[:SAMPLE_WORDS])
        cut = replace(document, turns=(replace(document.turns[0], text=words),))
        # All but the end.
        ids, prompt = tokenizer.encode_parts(list(render(cut))[:-1])[0], words
    else:
        told = before(document, last)
        ids, prompt = tokenizer.encode_prompt(told), told.turns[-1].text if told.turns else ""
    made = list(generate(model, ids, SAMPLE_TOKENS, (END_ID,)))
    return Sample(document.source, prompt, tokenizer.decode(made))


def is_valid_call(text: str, offered: str) -> bool:
    """Whether a call's JSON names one of the tools on offer, with all its arguments and no others.

    Args:
        offered: a signature per line, as JSON.
    """
    signatures = {tool["name"]: tool["arguments"] for tool in map(json.loads, offered.splitlines())}
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(call, dict)
        and call.keys() == {"name", "arguments"}
        and isinstance(call["name"], str)
        and call["name"] in signatures
        and isinstance(call["arguments"], dict)
        and call["arguments"].keys() == signatures[call["name"]].keys()
    )


def _name(text: str) -> Any:
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return call.get("name") if isinstance(call, dict) else None


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values)
