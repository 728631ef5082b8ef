"""How answers are compared, by hand; and what that refuses."""

import pytest

from device_sim.night.general import held_out, prompts, replayed, restyled
from device_sim.night.measuring import TOPIC, WORDING, Example, Measured, decoded_checks
from device_sim.night.scoring import chrf, relevance

from .living import embed
from .test_split import item


def test_chrf_of_two_short_texts_by_hand() -> None:
    # "abc" of "abcd": 3 of 3 and 3 of 4 letters, 2 of 2 and 2 of 3 pairs, 1 of 1 and 1 of 2 of three.
    recall = (3 / 4 + 2 / 3 + 1 / 2) / 3
    assert chrf("ab c", "abcd") == pytest.approx(2 * recall / (1 + recall))


@pytest.mark.parametrize(
    ("answer", "wanted", "score"), [("ab", "ab", 1.0), ("ab", "xy", 0.0), ("", "a", 0.0)]
)
def test_chrf_at_its_ends(answer: str, wanted: str, score: float) -> None:
    assert chrf(answer, wanted) == score


def test_an_empty_answer_is_on_no_topic() -> None:
    assert relevance(["a boat", "a boat"], ["a boat", " "], embed) == pytest.approx([1.0, 0.0])
    assert relevance([], [], embed) == []


def measured(wording: list[float], topic: list[float]) -> Measured:
    def examples(scores: list[float]) -> tuple[Example, ...]:
        return tuple(Example(str(i), score) for i, score in enumerate(scores))

    return Measured(
        None, {WORDING: examples(wording), TOPIC: examples(topic)}, {WORDING: "wording", TOPIC: "topic"}
    )


BEFORE = measured([0.2, 0.3] * 6, [0.6, 0.5] * 6)


@pytest.mark.parametrize(
    ("after", "failed"),
    [
        (measured([0.5, 0.7] * 6, [0.6, 0.45] * 6), []),
        (measured([0.2, 0.3] * 6, [0.6, 0.5] * 6), []),
        (measured([0.0, 0.0] * 6, [0.6, 0.5] * 6), ["night.wording"]),
        (measured([0.5, 0.7] * 6, [0.1, 0.2] * 6), ["night.topic"]),
    ],
    ids=["nearer", "as before", "further", "answers to other questions"],
)
def test_answers_that_are_given_decide_too(after: Measured, failed: list[str]) -> None:
    checks, reasons = decoded_checks(BEFORE, after)
    assert [check.id for check in checks if check.failed] == failed
    assert len(reasons) == len(failed)


def test_what_is_restyled_is_not_replayed() -> None:
    chats = [item(i) for i in range(5)]
    assert restyled(chats) == "chat"
    assert restyled([]) is None
    questions = {p.said for p in prompts() if p.form == "questions"}
    assert set(replayed(50, "chat")) <= questions
    both = replayed(40, None)
    assert len(both) == 40
    assert len([said for said in both if said in questions]) == 20
    assert len(replayed(100, "chat")) == 100


def test_what_is_measured_is_never_replayed() -> None:
    kept = {p.said for p in prompts() if p.held_out}
    assert not kept & set(replayed(500, None))
    assert set(held_out(None, 500)) == kept
    assert len({p.said.casefold() for p in prompts()}) == len(prompts()) == 120
