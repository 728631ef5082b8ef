"""Examples of tool calls, judged without the code that made them."""

import itertools
import json
import re
import string
from collections import Counter
from typing import Any

import pytest

from pretrain.lm.chat import Document
from pretrain.lm.data.documents import said
from pretrain.lm.data.tools import MOST_CHARACTERS, Tool, tool_documents, tools
from pretrain.lm.data.values import CLOSED, OPEN, words

TOOLS = {tool.name: tool for tool in tools()}
TWO_WORDS = ("street", "title", "place", "thing", "food", "artist", "date", "company")


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return list(tool_documents("tools", 1_500, 0, 0.2))


def placeholders(text: str) -> list[str]:
    return sorted(field for _, field, _, _ in string.Formatter().parse(text) if field)


NAME, WORD = r"[A-Z]\w+", r"[a-z]+"
PATTERNS = {
    "time": r"\d\d:\d\d", "date": rf"\d+ {NAME}", "currency": "[A-Z]{3}", "sentence": ".+",
    "language": NAME, "list": WORD, "room": WORD, "day": r"\w+", "people": r"\d+",
    **dict.fromkeys(("thing", "food"), f"{WORD}(?: {WORD}){{0,2}}"),
    **dict.fromkeys(("person", "city"), f"{NAME}(?: {NAME})?"),
    **dict.fromkeys(("street", "title", "place", "company", "artist"), f"{NAME}(?: {NAME}){{0,2}}"),
    **dict.fromkeys(("amount", "minutes", "calories", "percent"), r"\d+"),
}  # fmt: skip


def pattern(phrasing: str, tool: Tool) -> re.Pattern[str]:
    """What a question is that is asked in these words, whatever it begins and ends with."""
    text = re.sub(
        r"\\\{(\w+)\\\}", lambda found: PATTERNS[tool.arguments[found[1]]], f"(?i:{re.escape(phrasing[0])})"
        f"{re.escape(phrasing[1:])}" if phrasing[0] != "{" else re.escape(phrasing),
    )  # fmt: skip
    return re.compile(rf"(?:[\w ]{{1,15}}[:,!] |[Nn]ow )?{text}(?:[.?!]|,? please|, thanks|, thank you)?")


ASKED = [(tool, p, pattern(p, tool)) for tool in tools() for p in tool.phrasings + tool.unseen]


def asked_for(question: str) -> tuple[str, bool] | None:
    """The tool that a question is for by its words, and whether training never sees them; None where it is no
    phrasing, but one that was taken apart."""
    found = {(tool.name, p in tool.unseen) for tool, p, known in ASKED if known.fullmatch(question)}
    assert len(found) <= 1, (question, found)
    return found.pop() if found else None


def exchanges(document: Document) -> list[dict[str, str]]:
    """By role what is said from each question on, with the tools on offer."""
    found: list[dict[str, str]] = []
    for turn in document.turns[1:]:
        if turn.role == "user":
            found.append({"tools": document.turns[0].text})
        found[-1][turn.role] = turn.text
    return found


def offers(exchange: dict[str, str]) -> dict[str, Any]:
    """Signatures of the tools on offer, by name."""
    return {signature["name"]: signature for signature in map(json.loads, exchange["tools"].splitlines())}


def test_there_are_enough_tools_and_phrasings() -> None:
    assert len(TOOLS) >= 12
    for tool in tools():
        assert len(set(tool.phrasings)) >= 12
        assert len(set(tool.unseen)) >= 3
        assert not set(tool.phrasings) & set(tool.unseen)
        for phrasing in tool.phrasings + tool.unseen:
            assert placeholders(phrasing) == sorted(tool.arguments), phrasing
        assert set(placeholders(tool.answer)) <= set(tool.arguments) | set(tool.result)
        assert any(kind in OPEN for kind in tool.arguments.values()), tool.name
        assert set(tool.arguments.values()) | set(tool.result.values()) <= set(OPEN) | set(CLOSED)


def test_a_call_is_json_as_it_is_trained_on_and_fits_its_signature(documents: list[Document]) -> None:
    for held_out, share in ((False, 0.6), (True, 0.8)):
        asked = [one for d in documents if bool(d.held_out) == held_out for one in exchanges(d)]
        assert len([one for one in asked if "call" in one]) / len(asked) == pytest.approx(share, abs=0.05)
    for turn in (one for document in documents for one in exchanges(document) if "call" in one):
        call = json.loads(turn["call"])
        assert turn["call"] == json.dumps(call, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        offered = offers(turn)
        types = offered[call["name"]]["arguments"]
        assert set(types) == set(call["arguments"])
        for name, value in call["arguments"].items():
            assert types[name] == {str: "string", int: "integer"}[type(value)]
            assert re.search(rf"(?<!\w){re.escape(str(value))}(?!\w)", turn["user"]), turn


def test_a_tool_is_called_if_and_only_if_it_is_offered(documents: list[Document]) -> None:
    loose = trained = 0
    for document in documents[:600]:
        asked = exchanges(document)
        assert len(asked) == 1 or (not document.held_out and len(asked) <= 4)
        for turn in asked:
            offered = offers(turn)
            trained += not document.held_out
            assert len(offered) == 3 or (not document.held_out and 1 <= len(offered) < 3)
            if (meant := asked_for(turn["user"])) is None:
                assert not document.held_out
                assert ("call" in turn) != ("none" in turn)
                loose += 1
                continue
            assert (meant[0] in offered) == ("call" in turn) != ("none" in turn), turn
            if "call" in turn:
                assert json.loads(turn["call"])["name"] == meant[0]
    # Of the four in ten that are taken apart some come out as they went in.
    assert 0.3 < loose / trained < 0.4


def test_a_long_example_that_trains_has_fewer_questions(documents: list[Document]) -> None:
    trained = [document for document in documents if not document.held_out]
    sizes = [sum(len(turn.text) for turn in document.turns) for document in trained]
    assert 0.95 * MOST_CHARACTERS < max(sizes) <= MOST_CHARACTERS
    counts = Counter(len(exchanges(document)) for document in trained)
    assert set(counts) >= {3, 4}
    assert counts[4] / len(trained) > 0.8


def test_the_right_tool_is_in_any_place(documents: list[Document]) -> None:
    places: Counter[int] = Counter()
    for turn in (one for document in documents for one in exchanges(document)):
        if "call" in turn and len(names := list(offers(turn))) == 3:
            places[names.index(json.loads(turn["call"])["name"])] += 1
    assert set(places) == {0, 1, 2}
    assert min(places.values()) > 0.3 * places.total()


def open_values(document: Document) -> set[tuple[str, object]]:
    found = set()
    for call in (json.loads(one["call"]) for one in exchanges(document) if "call" in one):
        kinds = TOOLS[call["name"]].arguments
        found |= {(kinds[name], value) for name, value in call["arguments"].items() if kinds[name] in OPEN}
    return found


def test_training_has_none_of_the_held_out_values_and_phrasings(documents: list[Document]) -> None:
    by = {side: [d for d in documents if d.held_out == side] for side in (None, "value", "phrasing")}
    assert [len(by[side]) / len(documents) for side in by] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    seen = set().union(*map(open_values, by[None]))
    unseen = set().union(*map(open_values, by["value"]))
    assert len(seen) > 500
    assert len(unseen) > 80
    assert not seen & unseen
    assert not unseen & set().union(*map(open_values, by["phrasing"]))
    for document in documents[:600]:
        for turn in exchanges(document):
            meant = asked_for(turn["user"])
            assert meant is None or meant[1] == (document.held_out == "phrasing")


def test_training_has_names_of_any_letters_and_what_is_held_out_has_none(documents: list[Document]) -> None:
    """One city in five of training is in no list and of none of the syllables that others are made of."""
    syllables = re.compile(f"(?:{'|'.join(words('starts'))})(?:{'|'.join(words('middles'))})?"
                           f"(?:{'|'.join(words('town_ends'))})")  # fmt: skip
    strange: dict[bool, list[bool]] = {False: [], True: []}
    for document in documents:
        for turn in exchanges(document):
            call = json.loads(turn.get("call", "{}"))
            for name, value in call.get("arguments", {}).items():
                if TOOLS[call["name"]].arguments[name] == "city":
                    known = value in words("cities") or syllables.fullmatch(value)
                    strange[document.held_out is not None].append(not known)
    assert not any(strange[True])
    assert 0.15 < sum(strange[False]) / len(strange[False]) < 0.25


def test_training_has_numbers_of_any_size_and_names_of_any_length(documents: list[Document]) -> None:
    """Shares: by hand. One number in five is anew, of 1 to 4 digits alike: a tenth of the percents above 99.
    One city in five is anew, and gains a word one time in four: a twentieth."""
    percents: dict[bool, list[int]] = {False: [], True: []}
    long: dict[bool, list[bool]] = {False: [], True: []}
    for document in documents:
        for turn in exchanges(document):
            call = json.loads(turn.get("call", "{}"))
            for name, value in call.get("arguments", {}).items():
                kind = TOOLS[call["name"]].arguments[name]
                if kind == "percent":
                    percents[document.held_out is not None].append(value)
                elif kind == "city":
                    long[document.held_out is not None].append(" " in value)
    assert max(percents[True]) <= 99
    assert min(percents[False] + percents[True]) >= 1
    assert sum(value > 99 for value in percents[False]) / len(percents[False]) == pytest.approx(0.1, abs=0.04)
    assert not any(long[True])
    assert sum(long[False]) / len(long[False]) == pytest.approx(0.05, abs=0.02)


def test_an_example_does_not_depend_on_how_many_there_are(documents: list[Document]) -> None:
    assert list(tool_documents("tools", 20, 0, 0.2)) == documents[:20]
    assert list(tool_documents("tools", 20, 1, 0.2)) != documents[:20]


def unseen_windows(text: str, tool: Tool) -> tuple[int, int]:
    """Of the runs of 13 words of a template: those without a whole value of an open kind, and all.

    Of a sentence, the two words that make it one may stand behind three common ones.
    """
    words: list[str] = []
    values = []
    for word in text.split():
        kind = next((kind for name, kind in tool.arguments.items() if f"{{{name}}}" in word), None)
        start = len(words)
        if kind == "sentence":
            words += [word] * 7
            values.append((start + 3, start + 5))
        elif kind in OPEN:
            words += [word] * (2 if kind in TWO_WORDS else 1)
            values.append((start, len(words)))
        else:
            words.append(word)
    count = max(1, len(words) - 12)
    bare = sum(not any(at <= first and last <= at + 13 for first, last in values) for at in range(count))
    return bare, count


def test_no_template_can_leak(documents: list[Document]) -> None:
    """Whatever is drawn, less than a fifth of the 13-grams of an example of unseen values can be in training:
    the rest have a value that training never sees."""
    openers, closers = ["", "quick question: "], ["", ", thank you"]
    for tool in tools():
        values = " ".join(f"{name} {{{name}}}" for name in sorted(tool.arguments))
        call = f"arguments {values} name {tool.name}"
        result = " ".join(w for name in sorted(tool.result) for w in (name, "1"))
        endings = ["No tool fits.", call, *([f"{call} {result} {tool.answer}"] if tool.result else [])]
        for parts in itertools.product(openers, tool.phrasings + tool.unseen, closers, endings):
            bare, count = unseen_windows("{}{}{} {}".format(*parts), tool)
            assert bare / count < 0.2, parts
    assert max(len(said(d).split()) for d in documents if d.held_out and "none" in exchanges(d)[0]) < 40
