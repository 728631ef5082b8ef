"""What tonight's examples look like before anything is trained, and what the gate makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from device_sim.night.data import Item
from device_sim.night.engine import Said
from device_sim.night.gate.config import GateConfig
from device_sim.night.gate.evidence import Told
from device_sim.night.gate.told import OF_LEVEL, sound
from device_sim.night.told import LOOKED_AT, told

from .pretending import Pretender
from .test_split import WORDS, item


class Counting(Pretender):
    """Losses that are 1 for an answer after its own message, 2 after another; and what was asked for."""

    def losses(self, adapter: object, said: Sequence[Said]) -> list[float]:
        self.asked = [*getattr(self, "asked", []), *said]
        return [1.0 if answer.endswith(asked.text) else 2.0 for asked, answer in said]


def talk(count: int, shift: int = 0) -> list[Item]:
    words = [f"{WORDS[i % 25]}{WORDS[i // 25]}" for i in range(count)]
    return [
        replace(item(i), said=word, answer=f"That is {words[(i + shift) % count]}")
        for i, word in enumerate(words)
    ]


def failed(found: Told) -> list[str]:
    return [finding.check.id for finding in sound(found) if finding.check.failed]


def test_an_answer_is_weighed_after_its_own_message_and_after_another() -> None:
    engine = Counting()
    found = told(engine, talk(20))
    assert found == Told((1.0,) * 20, 0, 20)
    assert len(engine.asked) == 40
    assert {said for said, _ in engine.asked[:20]} == {said for said, _ in engine.asked[20:]}
    assert failed(found) == []


def test_shuffled_answers_are_likelier_nowhere() -> None:
    found = told(Counting(), talk(20, shift=3))
    assert abs(sum(found.belonging)) <= 1  # one may meet its message by chance
    assert failed(found) == ["gate.belonging"]


@pytest.mark.parametrize("answers", [["Aye."], ["Aye, captain!", "No."]])
def test_answers_that_are_nearly_the_same_cannot_be_told_apart(answers: list[str]) -> None:
    items = [replace(one, answer=answers[i % len(answers)]) for i, one in enumerate(talk(20))]
    found = told(Counting(), items)
    assert found.belonging == ()
    assert sound(found)[0].check.status == "not judged"


def test_facts_are_not_weighed_and_much_is_drawn_from() -> None:
    facts = [replace(one, kind="fact") for one in talk(20)]
    assert told(Counting(), facts) == Told((), 0, 0)
    assert failed(Told((), 0, 0)) == []
    assert told(Counting(), talk(200)).examples == LOOKED_AT


def test_a_message_with_two_answers_is_a_contradiction_and_with_one_said_twice_is_none() -> None:
    items = talk(12)
    again = [replace(one, id=f"again {one.id}", said=f"{one.said.upper()}!") for one in items[:4]]
    assert told(Counting(), [*items, *again]).contradicted == 0
    other = [replace(one, answer="By no means at all.") for one in again]
    assert told(Counting(), [*items, *other]).contradicted == 8
    assert failed(Told((), 8, 16)) == ["gate.contradictions"]
    assert failed(Told((), 4, 16)) == []


def test_of_nights_of_noise_as_many_pass_as_the_level_says() -> None:
    """Gains of noise are as often for as against, and some are large: Student's t of 3 degrees."""
    rng = np.random.default_rng(2)
    passed = sum(not failed(Told(tuple(rng.standard_t(3, 60).tolist()), 0, 60)) for _ in range(400))
    # 4 are expected at .01; 10 is three deviations above.
    assert passed <= 10
    assert OF_LEVEL * GateConfig().level == pytest.approx(0.01)
