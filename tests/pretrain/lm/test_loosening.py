"""Phrasings taken apart: what tells their values apart is still there, and nothing of what is held out."""

import random
import re
from collections import Counter

from pretrain.lm.data.loosening import Piece, common_words, cut, loosened
from pretrain.lm.data.tools import tools
from pretrain.lm.data.values import words

COMMON = frozenset(("to", "at", "in", "on", "for", "a", "the", "me", "i", "am", "is"))


def spoken(text: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"\{\w+\}", "", text).lower())


def cut_into(phrasing: str, all_before: bool = False) -> list[str]:
    """Pieces with a value in brackets."""
    pieces = cut(phrasing, COMMON, all_before)
    return [f"[{' '.join(piece.words)}]" if piece.value else " ".join(piece.words) for piece in pieces]


def test_a_value_keeps_the_short_words_before_it_and_its_unit() -> None:
    assert cut_into("dim the {room} light to {percent} percent") == [
        "dim", "[the {room}]", "light", "[to {percent} percent]"
    ]  # fmt: skip
    # Two at most; a name or a verb stays only where it alone tells two values apart.
    assert cut_into("so I am at {from}, reach {to} now") == [
        "so",
        "I",
        "[am at {from},]",
        "reach",
        "[{to}]",
        "now",
    ]
    assert cut_into("I am at {from}, reach {to} now", True) == ["I", "[am at {from},]", "[reach {to}]", "now"]
    # Values in a row are one; a comma ends it.
    assert cut_into("change {amount} {from} to {to}") == ["change", "[{amount} {from}]", "[to {to}]"]
    assert cut_into("{artist}, {title}, play") == ["[{artist},]", "[{title},]", "play"]
    # What is said word for word begins behind all that stands before it.
    assert cut_into("drop {to} a short line: {text}") == ["drop", "[{to}]", "[a short line: {text}]"]


def test_common_words_are_those_of_many_tools() -> None:
    assert common_words([["give me {a}", "Give me it"], ["give {a}"], ["give"], ["please give {b}"]]) == {
        "give"
    }


def test_nothing_that_a_value_needs_is_lost() -> None:
    rng = random.Random(0)
    common = common_words([tool.phrasings for tool in tools()])
    orders: Counter[bool] = Counter()
    for tool in tools():
        unseen = {re.sub(r"[,:]", "", phrasing.lower()) for phrasing in tool.unseen}
        apart = len(set(tool.arguments.values())) < len(tool.arguments)
        for phrasing in tool.phrasings:
            pieces = cut(phrasing, common, apart)
            assert " ".join(word for piece in pieces for word in piece.words) == phrasing
            made = [loosened(pieces, rng) for _ in range(20)]
            assert len(set(made)) > 1
            for one in made:
                assert sorted(re.findall(r"\{\w+\}", one)) == sorted(re.findall(r"\{\w+\}", phrasing))
                for piece in pieces:
                    assert " ".join(piece.words).rstrip(",:") in one or not piece.value, (phrasing, one)
                if phrasing.endswith("{text}"):
                    assert one.endswith(" ".join(next(p for p in reversed(pieces) if p.value).words))
                assert re.sub(r"[,:]", "", one.lower()) not in unseen
                places = [one.index(f"{{{name}}}") for name in re.findall(r"\{(\w+)\}", phrasing)]
                orders[places == sorted(places)] += 1
    assert 0.1 < orders[False] / orders.total() < 0.3


def test_new_words_are_of_no_phrasing_that_is_held_out_and_of_no_value() -> None:
    trained = {word for tool in tools() for phrasing in tool.phrasings for word in spoken(phrasing)}
    held_out = {word for tool in tools() for phrasing in tool.unseen for word in spoken(phrasing)}
    fillers = words("fillers")
    assert len(set(fillers)) == len(fillers) > 500
    assert not set(fillers) & (held_out - trained)
    for name in ("adjectives", "nouns", "foods", "rooms", "lists"):
        assert not set(fillers) & set(words(name)), name
    pieces = [Piece(("what",), False), Piece(("{a}",), True)]
    rng = random.Random(1)
    said = {word for _ in range(3_000) for word in loosened(pieces, rng).split()}
    assert len(said & set(fillers)) > 400
    # Some are nobody's.
    assert len(said - set(fillers)) > 100
