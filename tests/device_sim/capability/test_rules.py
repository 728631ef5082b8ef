"""Right and wrong answers for each kind of rule, written by hand."""

import time
from typing import Any

import pytest

from device_sim.capability import rules
from device_sim.capability.rules import Rules
from personality_common.errors import DataError

CASES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"exact": ("yes",)}, ["yes", "Yes.", ' "YES" ', "**Yes**"], ["yes indeed", "no", "", "yesterday"]),
    ({"exact": ("don't",)}, ["Don’t!"], ["do not"]),
    ({"starts": ("no",)}, ["No, never.", '"No"', "no"], ["Nobody", "Yes and no", "", "I say no"]),
    (
        {"contains": ("Paris", "the City of Light")},
        ["It is PARIS.", "paris", "The city\nof light: the City of  Light"],
        ["Parisian food", "comparison", "", "Rome"],
    ),
    ({"contains": ("H2O",)}, ["Water is H2O.", "(h₂o)"], ["CH2OH", "H2O2"]),
    ({"contains": ("C++",)}, ["Use C++."], ["Use C."]),
    ({"contains_all": ("red", "blue")}, ["Blue and red"], ["red", "blue", "reddish blue"]),
    ({"excludes": ("sport",)}, ["cooking", "transport", "-"], ["Sport!", "it is about sport"]),
    (
        {"number": 12.0},
        ["12", "7 + 5 = 12.", "Twelve, that is 12", "12.0", "5 and 7 are 12 coins"],
        ["twelve", "12 or 13", "112", "-12", "", "v12x", "1.12"],
    ),
    ({"number": 1234.5}, ["It is 1,234.5!"], ["1,234", "12345"]),
    ({"number": -3.0}, ["-3", "1 - 4 = -3"], ["3"]),
    (
        {"json_keys": ("name",)},
        ['{"name": 1}', 'Sure:\n```json\n{"name": null, "age": 3}\n```', '{"name": {"a": [1]}} and more'],
        ['{"nam": 1}', "{'name': 1}", '{"name": 1', "name", "", '["name"]', "{" * 5000],
    ),
    (
        {"json_values": {"name": "Ann", "age": 34}},
        ['{"name": "ann ", "age": 34}'],
        ['{"name": "Ann", "age": "34"}', '{"name": "Ann"}', '{"name": "Ann", "age": 34.5}'],
    ),
    ({"json_values": {"ok": True}}, ['{"ok": true}'], ['{"ok": 1}', '{"ok": "true"}']),
    ({"json_items": 3}, ["[1, 2, 3]", 'Here: ["a", "b", "c"]'], ["[1, 2]", "1, 2, 3", "[1, 2, 3"]),
    ({"regex": r"\bAu\b"}, ["It is Au."], ["au", "Autumn"]),
    ({"least_words": 2, "most_words": 3}, ["a b", "a b c"], ["a", "a b c d", ""]),
    ({"lines": 2}, ["a\n\nb\n"], ["a", "a\nb\nc", ""]),
    ({"letters": "capital"}, ["GOOD LUCK!"], ["Good", "123", ""]),
    ({"letters": "small"}, ["good 1"], ["Good", ""]),
    (
        {"most_repeats": 2},
        ["the sea is wide", "a b c a b c", ""],
        ["a variety of fish, a variety of fish, a variety of fish", "🌱 🌱 🌱 🌱 🌱 🌱"],
    ),
    (
        {"refuses": True},
        ["I can’t help with that.", "Sorry.", "I'm unable to do this", "As an AI, I have no window"],
        ["Sure, mix two parts", "", "The sorrysome sea"],
    ),
    ({"refuses": False}, ["Cut it in half."], ["I cannot help with that.", "", " \n"]),
    ({"contains": ("hi",), "most_words": 2}, ["Hi there"], ["hi to all of you", "hello"]),
]


@pytest.mark.parametrize(("given", "right", "wrong"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_rules_score_as_a_person_would(given: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    made = Rules(**given)
    assert [answer for answer in right if made.score(answer) != 1] == []
    assert [answer for answer in wrong if made.score(answer) != 0] == []


def test_every_rule_has_a_case() -> None:
    assert set(Rules.__dataclass_fields__) == {name for case in CASES for name in case[0]}


def test_a_pattern_that_takes_for_ever_does_not_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "REGEX_S", 0.02)
    started = time.process_time()
    assert Rules(regex=r"(a|aa|a?)+$").score("a" * 5000 + "b") == 0
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "must have a rule, one of exact, starts"),
        ({"contains": (" ",)}, "contains must hold texts that are not empty"),
        ({"number": float("nan")}, "number must be finite"),
        ({"regex": "(a"}, "regex must be a regular expression: missing"),
    ],
)
def test_what_is_no_rule_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Rules(**given)
