"""How answers are compared, by hand; and which prompts of nobody's are trained and measured."""

import re

import pytest

from device_sim.capability.suite import default_suite, probes
from device_sim.night.general import care, held_out, prompts, replayed, restyled
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


def test_what_is_restyled_is_not_replayed() -> None:
    chats = [item(i) for i in range(5)]
    assert restyled(chats) == "chat"
    assert restyled([]) is None
    forms = {p.said: p.form for p in prompts()}
    assert {forms[said] for said in replayed("chat")} == {"questions", "tasks"}
    assert {forms[said] for said in replayed(None)} == {"questions", "chat", "tasks"}
    assert len(set(replayed(None))) == len(replayed(None))


def test_no_task_of_the_suite_is_replayed_or_measured_as_nobody_s() -> None:
    tasks = {" ".join(t.prompt.casefold().split()) for s in (default_suite(), probes()) for t in s.tasks}
    assert not tasks & {" ".join(p.said.casefold().split()) for p in prompts()}


def test_talk_of_distress_and_refusal_shares_no_word_that_matters_with_what_measures_it() -> None:
    tasks = [t for s in (default_suite(), probes()) for t in s.tasks if t.domain in ("safety", "refusal")]
    frame = {"about", "does", "make", "tell", "what", "when", "which", "write"}
    theirs, ours = (
        {word for text in texts for word in re.findall(r"[a-z]{4,}", text.casefold())} - frame
        for texts in ([t.prompt for t in tasks], care())
    )
    assert len(tasks) > 40
    assert len(set(care())) == len(care()) == 48
    assert not theirs & ours


def test_a_night_that_reads_replays_that_talk_whatever_is_restyled() -> None:
    for form in (None, "questions", "chat"):
        assert replayed(form, reads=True) == [*replayed(form)[::2], *care()]


def test_what_is_measured_is_never_replayed() -> None:
    kept = {p.said for p in prompts() if p.held_out}
    assert not kept & {*replayed(None), *replayed(None, reads=True)}
    assert set(held_out(None, 500)) == kept
    assert len({p.said.casefold() for p in prompts()}) == len(prompts()) == 226
