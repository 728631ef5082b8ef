"""Histories and questions about them, made by a grammar: what `bench_memory.py` asks.

What is asked shares as few words as possible with what was said: each slot has a wording for saying and one
for asking. Random numbers come by seed, so that a seed gives the same questions everywhere.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from device_sim.companion.memory.evaluation import Question
from device_sim.companion.memory.sayings import Saying

CONVERSATIONS: Final = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"
USERS, ASKED_OF_EACH = 24, 6
EVENTS, ASKED = 2_400, 300

FACTS_FILE: Final = Path(__file__).with_name("memory_facts.txt")

PEOPLE: Final = (
    ("mum", "mother"),
    ("dad", "father"),
    ("granny", "grandmother"),
    ("boss", "manager"),
    ("flatmate", "roommate"),
    ("husband", "spouse"),
    ("neighbour", "the man next door"),
    ("doctor", "physician"),
    ("coach", "trainer"),
    ("teacher", "instructor"),
    ("buddy", "best friend"),
    ("cousin", "relative"),
)
ACTIONS: Final = (
    ("dropped the phone", "damaged a mobile"),
    ("burned the toast", "ruined breakfast"),
    ("lost the keys", "could not unlock the door"),
    ("won the quiz", "came first in a trivia contest"),
    ("fixed the bike", "repaired a bicycle"),
    ("sang too loudly", "was noisy with a song"),
    ("found a kitten", "rescued a baby cat"),
    ("fell asleep", "took an unplanned nap"),
    ("told a ghost story", "frightened everybody with a tale"),
    ("spilled the wine", "made a stain with a drink"),
    ("forgot the tickets", "left the admission cards behind"),
    ("painted a mural", "made a picture on a wall"),
    ("got stung by a wasp", "was hurt by an insect"),
    ("baked bread", "made a loaf"),
    ("bought a drum kit", "paid for percussion"),
    ("missed the bus", "was too late for transport"),
    ("cut the power", "caused a blackout"),
    ("planted roses", "put flowers in the ground"),
    ("cheated at cards", "broke the rules of a game"),
    ("saw a fox", "spotted a wild animal"),
)
PLACES: Final = (
    ("at the seaside", "on the beach"),
    ("in the attic", "under the roof"),
    ("at the airport", "where planes leave"),
    ("in the cellar", "in the basement"),
    ("at church", "during the mass"),
    ("on the motorway", "on the highway"),
    ("at the wedding", "where a couple married"),
    ("in hospital", "at the clinic"),
    ("at the zoo", "near the cages"),
    ("in the forest", "among the trees"),
    ("at the office", "at work"),
    ("in the cinema", "while watching a film"),
)
OPENINGS: Final = (
    "Guess what:",
    "Yesterday",
    "So",
    "You won't believe it:",
    "Again",
    "This morning",
    "Funny:",
    "Well,",
)
ENDINGS: Final = (
    "and we laughed about it all evening",
    "which nobody had expected",
    "and I had to call for help",
    "so we went home early",
    "and it was raining, too",
    "but it ended well",
    "as if that were normal",
    "and now everybody knows",
    "while I was on the phone",
    "and I'm still shaking my head",
)
MARKS: Final = (
    ("the receipt says {}", "{} receipt"),
    ("the man was called {}", "{}"),
    ("the form was {}", "form {}"),
    ("the shop is {}'s", "{} shop"),
    ("the case number is {}", "case {}"),
    ("the street was {} Lane", "{} lane"),
)
SYLLABLES: Final = [
    "bren",
    "wick",
    "tor",
    "mal",
    "den",
    "ash",
    "quil",
    "ver",
    "nox",
    "ley",
    "pim",
    "har",
    "stow",
    "gil",
    "fen",
    "dra",
    "kel",
    "mun",
    "rath",
    "sey",
]


def read_facts() -> list[tuple[list[str], list[str], list[str]]]:
    """Of each fact: sayings with a gap, questions, values."""
    text = FACTS_FILE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line[:2] in ("> ", "? ", "= ")]
    return [
        (said[2:].split(" | "), asked[2:].split(" | "), values[2:].split(", "))
        for said, asked, values in zip(*[iter(lines)] * 3, strict=True)
    ]


@dataclass(frozen=True)
class Asked:
    """What was said by all users, and what is asked, by kind: facts, natural, keywords."""

    said: list[Saying]
    questions: dict[str, list[Question]] = field(default_factory=dict)


def make(seed: int) -> Asked:
    """The histories and questions of a seed."""
    rng = random.Random(seed)
    asked = Asked([], {"facts": [], "natural": [], "keywords": []})
    talk = _small_talk(rng)
    for number in range(USERS):
        _facts(asked, f"user{number:02}", talk, rng)
    _events(asked, talk, rng)
    return asked


def _facts(asked: Asked, user: str, talk: list[str], rng: random.Random) -> None:
    said: list[tuple[str, str | None]] = [(text, None) for text in rng.sample(talk, 30)]
    facts = read_facts()
    chosen = set(rng.sample(range(len(facts)), ASKED_OF_EACH))
    for number, (sayings, questions, values) in enumerate(facts):
        text, question = rng.choice(sayings).format(rng.choice(values)), rng.choice(questions)
        said.append((text[0].upper() + text[1:], question if number in chosen else None))
    for text, question_or_none in rng.sample(said, len(said)):
        turn = _say(asked, user, text)
        if question_or_none is not None:
            asked.questions["facts"].append(Question(question_or_none, turn, user))


def _events(asked: Asked, talk: list[str], rng: random.Random) -> None:
    combinations = [(p, a, o) for p in PEOPLE for a in ACTIONS for o in PLACES]
    chosen = rng.sample(combinations, EVENTS)
    said: list[tuple[str, str | None, str | None]] = [(text, None, None) for text in talk]
    for number, (person, action, place) in enumerate(chosen):
        text = f"{rng.choice(OPENINGS)} my {person[0]} {action[0]} {place[0]}, {rng.choice(ENDINGS)}."
        who = person[1] if person[1].startswith("the ") else f"my {person[1]}"
        natural = f"When was it that {who} {action[1]} {place[1]}?" if number < ASKED else None
        keywords = None
        if ASKED <= number < 3 * ASKED:
            mark, words = rng.choice(MARKS)
            name = _name(rng)
            text = f"{text[:-1]}; {mark.format(name)}."
            keywords = words.format(name) if number < 2 * ASKED else None
        said.append((text, natural, keywords))
    for text, natural, keywords in rng.sample(said, len(said)):
        turn = _say(asked, "storyteller", text)
        for kind, question in (("natural", natural), ("keywords", keywords)):
            if question is not None:
                asked.questions[kind].append(Question(question, turn, "storyteller"))


def _say(asked: Asked, user: str, text: str) -> str:
    number = len(asked.said)
    minutes, hours = number % 60, number // 60
    time = f"2026-{1 + hours // 24 // 28:02}-{1 + hours // 24 % 28:02}T{hours % 24:02}:{minutes:02}:00.000Z"
    asked.said.append(Saying(f"turn{number:06}", text, user, time, "user"))
    return asked.said[-1].turn


def _name(rng: random.Random) -> str:
    """A word that nobody has seen, or a number like those on forms."""
    if rng.random() < 0.5:
        return "".join(rng.sample(SYLLABLES, 3)).capitalize()
    return f"{''.join(rng.choices('ABCDEFGHKLMNPRSTVWXZ', k=2))}{rng.randrange(1_000, 10_000)}"


def _small_talk(rng: random.Random) -> list[str]:
    """The human turns of the project's conversations, each once, in an order of its own."""
    turns = {
        turn["value"]
        for line in CONVERSATIONS.read_text(encoding="utf-8").splitlines()
        for turn in json.loads(line)["conversations"]
        if turn["from"] == "human"
    }
    return rng.sample(sorted(turns), len(turns))
