"""Questions about a night's facts as the base model words them; those are trained that can be checked.

The base is asked to word a question otherwise, and never sees what it asks for. It is 135 million parameters
large, and mostly does something else: each question that it writes is held against what the night knows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from device_sim.capability.rules import fold, has_word
from device_sim.night.data import Item
from device_sim.night.desk import Desk
from device_sim.night.engine import Prompted
from device_sim.night.recalling import recalled
from device_sim.night.split import NEAR, Embed
from device_sim.night.state import AUGMENTED_FILE, Augmented, Night
from personality_common.errors import DataError
from personality_common.files.atomic import read_json_object, write_json
from personality_common.files.typed import from_json

SCHEMA: Final = 1
FORMS: Final = (
    'Which question means the same as "{}"? Begin with "Can you tell me".',
    'List five different questions that ask the same as "{}"',
    'A person forgot something about themselves and asks: "{}" Write how else they could ask.',
)
"""What the base is asked, one after the other: greedy, it has one answer to each."""
ANSWER_TOKENS: Final = 40
NO_QUESTION: Final = "no question"
NOT_OWN: Final = "not of the one who asks"
HAS_VALUE: Final = "has the value"
KNOWN: Final = "there already"
HELD_BACK: Final = "nearly one that is not trained"
ELSEWHERE: Final = "another memory is nearer"
_MINE: Final = {"i", "my", "mine", "myself"}
"""Without `me`: "Can you tell me" is said of anything."""
_YOURS: Final = {"your", "yours"}
_QUESTIONS: Final = re.compile(r"[^.!?:;\"“”\n]+\?")
_LEAST: Final = 4
"""Letters of a word of a value that no question may have."""

Ask = Callable[[Sequence[str]], list[str]]
"""Messages -> what the base answers, greedily."""


@dataclass(frozen=True)
class Augmentation:
    """What the base made of a night's facts.

    Attributes:
        facts: counts, in the order in which they were asked.
        questions: by the turn that told the fact; those that were kept.
    """

    facts: tuple[Augmented, ...] = ()
    questions: dict[str, tuple[str, ...]] = field(default_factory=dict)


def augmentation(night: Night, desk: Desk) -> Augmentation:
    """The night's; made once, and kept in its folder until it ends."""
    if not night.settings.augment:
        return Augmentation()
    path = desk.folder / AUGMENTED_FILE
    if path.exists():
        content = read_json_object(path)
        if content.get("schema") != SCHEMA:
            raise DataError(f"{path}: must be of schema {SCHEMA}, is not; begin the night anew")
        return from_json(Augmentation, content, str(path))
    trained = set(night.split.train)

    def ask(said: Sequence[str]) -> list[str]:
        return desk.engine.answers(None, [Prompted(one) for one in said], ANSWER_TOKENS)

    made = augment(
        desk.chosen(night.split.train), [item for item in desk.data.items if item.id not in trained],
        night.settings.augment, ask, desk.engine.embed,
    )  # fmt: skip
    write_json(path, {"schema": SCHEMA, **asdict(made)}, private=True)
    return made


def items_of(made: Augmentation, items: Sequence[Item]) -> list[Item]:
    """As items that are trained as their facts' other questions are."""
    of = {item.turns[0]: item for item in items if item.kind == "fact"}
    return [
        replace(of[memory], id=f"{memory}.base{number}", said=question)
        for memory, questions in made.questions.items()
        for number, question in enumerate(questions)
        if memory in of
    ]


def augment(items: Sequence[Item], others: Sequence[Item], most: int, ask: Ask, embed: Embed) -> Augmentation:
    """Have the facts' questions worded otherwise, one of each fact after the other, until there are enough.

    Args:
        items: that are trained, talk too.
        others: that are not, and must not be trained by the way.
        most: questions that are kept, of all facts.
    """
    facts: dict[str, list[Item]] = {}
    for item in items:
        if item.kind == "fact":
            facts.setdefault(item.turns[0], []).append(item)
    counts: dict[str, Counter[str]] = {}
    kept: list[Item] = []
    for form, number in _tries(facts):
        own = [found[number] for found in facts.values() if number < len(found)]
        if len(kept) >= most:
            break
        for item, answer in zip(own, ask([form.format(item.said) for item in own]), strict=True):
            count = counts.setdefault(item.turns[0], Counter())
            made = [replace(item, said=text) for text in _questions(answer)]
            count["made"] += max(1, len(made))
            count[NO_QUESTION] += not made
            for one, why in zip(made, _refused(made, [*items, *kept], others, embed), strict=True):
                if why is None and len(kept) < most:
                    kept.append(one)
                    count["kept"] += 1
                elif why is not None:
                    count[why] += 1
                else:
                    count["made"] -= 1  # it was not needed
    return Augmentation(
        tuple(
            Augmented(memory, count.pop("made"), count.pop("kept", 0), {w: n for w, n in count.items() if n})
            for memory, count in counts.items()
        ),
        {memory: found for memory in facts if (found := tuple(o.said for o in kept if o.turns[0] == memory))},
    )


def _tries(facts: dict[str, list[Item]]) -> Iterator[tuple[str, int]]:
    """What is asked, and which of a fact's wordings is put in."""
    for number in range(max(map(len, facts.values()), default=0)):
        for form in FORMS:
            yield form, number


def _questions(answer: str) -> list[str]:
    """Sentences of an answer that end as questions do, each once."""
    found = (match.strip(" -*'()0123456789") for match in _QUESTIONS.findall(answer))
    return list(dict.fromkeys(text for text in found if len(_words(text)) > 1))


def _refused(
    made: Sequence[Item], items: Sequence[Item], others: Sequence[Item], embed: Embed
) -> list[str | None]:
    """Why each must not be trained; None: it may."""
    known = {_bare(item.said) for item in (*items, *others)}
    near = embed([item.said for item in made]) @ embed([item.said for item in others]).T if others else None
    asked = recalled(made, items, embed)
    found: list[str | None] = []
    for number, item in enumerate(made):
        words, value = _words(item.said), item.value or ""
        long = {word for word in _words(value) if len(word) >= _LEAST}
        why = None
        if not words & _MINE or words & _YOURS:
            why = NOT_OWN
        elif has_word(fold(item.said), value) or words & long:
            why = HAS_VALUE
        elif _bare(item.said) in known:
            why = KNOWN
        elif near is not None and near[number].max() >= NEAR:
            why = HELD_BACK
        elif asked[number].memories[0] != item.told:
            why = ELSEWHERE
        found.append(why)
    return found


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", fold(text)))


def _words(text: str) -> set[str]:
    return set(_bare(text).split())
