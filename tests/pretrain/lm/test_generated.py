"""What is generated is true: facts and answers, computed anew from the questions."""

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable

import pytest
from scipy import constants

from pretrain.lm.chat import PERSPECTIVES, Document
from pretrain.lm.data.perspectives import kinds, perspective_documents
from pretrain.lm.data.reasoning import final_answer, reasoning_documents
from pretrain.lm.data.self_description import self_documents
from pretrain.lm.data.values import OPEN

Made = list[tuple[Document, bool]]


@pytest.fixture(scope="module")
def perspectives() -> Made:
    return list(perspective_documents("p", 1_800, 0, 0.2))


@pytest.fixture(scope="module")
def reasoning() -> Made:
    return list(reasoning_documents("r", 800, 0, 0.2))


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", text)


def fall(height: float) -> list[float]:
    speed = math.sqrt(2 * 9.81 * height)  # by energy
    return [speed, 2 * height / speed, speed**2 / 2, constants.h / speed, 9.81, 1, 3, 5, 7]


def echo(given: list[float]) -> list[float]:
    distance, hertz = max(given), min(given)
    one_way = [(distance, hertz), (hertz, distance)]
    return [343, *(x for d, f in one_way for x in (2 * d, 2 * d / 343, constants.h * f))]


def pendulum(length: float) -> list[float]:
    period = 2 * math.sqrt(length / 99.396)  # a seconds pendulum is that long where gravity is 9.81
    return [period, 4 * length, constants.h / period]


def cooling(gap: float, minutes: float) -> list[float]:
    return [gap / 2, gap / 2 / 2, minutes + minutes, constants.k * gap / 2]


def doubling(count: float, minutes: float) -> list[float]:
    for _ in range(2):
        count += count
    return [count / 2, count + count, 3 * minutes, 1, 8]


def lever(mass: float, ratio: float) -> list[float]:
    return [mass / ratio, 10 * ratio, constants.hbar / 2 / 1e-9 / mass, 10]


JUDGES: dict[str, tuple[str, Callable[[list[float]], list[float]]]] = {
    "fall": (r"drops a|falls from|lets a", lambda n: fall(n[0])),
    "echo": (r"hertz", echo),
    "pendulum": (r"string|pendulum", lambda n: pendulum(n[0])),
    "cooling": (r"degrees", lambda n: cooling(n[0], n[1])),
    "doubling": (r"cells", lambda n: doubling(n[0], n[1])),
    "lever": (r"lever", lambda n: lever(max(n), min(n for n in n if n != 1))),
}


def near(written: str, value: float) -> bool:
    """Whether a number is a value as rounded to the digits that are there."""
    digits, _, exponent = written.partition("e")
    places = len(digits.partition(".")[2])
    step = 10.0 ** (int(exponent or 0) - places)
    # Two decimals, of which zeros at the end are left out.
    return abs(float(written) - value) <= (0.51 * step if exponent else max(0.0051, 1e-4 * value))


def test_every_number_in_an_answer_is_right(perspectives: Made) -> None:
    met = set()
    for document, _ in perspectives:
        question, answer = (turn.text for turn in document.turns)
        (kind,) = (kind for kind, (words, _) in JUDGES.items() if re.search(words, question))
        given = numbers(question)
        facts = JUDGES[kind][1](list(map(float, given)))
        for number in numbers(answer):
            assert number in given or any(near(number, fact) for fact in facts), (
                kind,
                number,
                question,
                answer,
            )
        met.add((kind, document.perspective))
    assert met == set(itertools.product(kinds(), PERSPECTIVES))


def test_newton_says_what_matters(perspectives: Made) -> None:
    """Not only numbers of the question: one that follows from it."""
    for document, _ in perspectives:
        question, answer = (turn.text for turn in document.turns)
        if document.perspective == "newton":
            assert set(numbers(answer)) - set(numbers(question)), answer


def test_a_question_is_answered_under_every_tag_and_stays_on_one_side(perspectives: Made) -> None:
    by_group = defaultdict(list)
    for document, unseen in perspectives:
        by_group[document.group].append((document.perspective, document.turns[0].text, unseen))
    assert len(by_group) == 300
    for found in by_group.values():
        assert [perspective for perspective, _, _ in found] == list(PERSPECTIVES)
        assert len({(question, unseen) for _, question, unseen in found}) == 1
    answers = [document.turns[1].text for document, _ in perspectives]
    assert len(set(answers)) == len(answers)


def test_no_template_of_a_perspective_can_leak() -> None:
    """Whatever is drawn, less than a fifth of the 13-grams of a document of unseen values are without one."""
    for kind in kinds().values():
        opened = [f"{{{slot}}}" for slot, of in kind["values"].items() if of in OPEN]
        for perspective in PERSPECTIVES:
            for parts in itertools.product(kind["questions"], *kind[perspective]):
                words = " ".join(parts).split()
                count = len(words) - 12
                bare = sum(not any(s in w for s in opened for w in words[i : i + 13]) for i in range(count))
                assert bare / count < 0.2, parts


def test_articles_are_right(perspectives: Made, reasoning: Made) -> None:
    for document, _ in [*perspectives, *reasoning]:
        for turn in document.turns:
            assert not re.search(r"\b[Aa] [aeiou]", turn.text), turn.text
            assert not re.search(r"\{|\}", turn.text), turn.text


def solved(question: str) -> str:
    """The answer to a question of reasoning, by reading it."""
    if "How many coins" in question:
        purse, price, pieces = map(int, numbers(question))
        return str(purse - sum([price] * pieces))
    if "arrive" in question:
        hours, minutes, *parts = map(int, re.findall(r"\d+", question))
        end = (hours * 60 + minutes + sum(parts)) % (24 * 60)
        return f"{end // 60:02d}:{end % 60:02d}"
    if "Who is" in question:
        pairs = re.findall(r"(\w+) is \w+ than (\w+)", question)
        names = {name for pair in pairs for name in pair}
        last = question.endswith(("shortest?", "youngest?"))
        (answer,) = names - {pair[0 if last else 1] for pair in pairs}
        return answer
    total = 0
    for sentence in question.split(". ")[:-1]:
        amounts = list(map(int, numbers(sentence)))
        if " has " in sentence or "more" in sentence:
            total += amounts[0]
        elif "gives away" in sentence:
            total -= amounts[0]
        elif "boxes" in sentence:
            total += math.prod(amounts)
    return str(total)


def test_answers_and_every_step_are_right(reasoning: Made) -> None:
    steps = 0
    for document, _ in reasoning:
        question, answer = (turn.text for turn in document.turns)
        assert final_answer(answer) == solved(question), (question, answer)
        for left, sign, right, result in re.findall(r"^(\d+) ([-+*]) (\d+) = (\d+)$", answer, re.MULTILINE):
            value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[sign](int(left), int(right))
            assert value == int(result) >= 0
            steps += 1
    assert steps > 1_000


def test_an_answer_without_its_last_line_has_none() -> None:
    assert final_answer("3 + 4 = 7\nAnswer: 7\n") == "7"
    assert final_answer("Answer: 7\n3 + 4 = 7") is None


FIRST_WORDS = {"How", "If", "What", "With", "A", "The", "Each", "When", "Who"}


@pytest.mark.parametrize("generate", [perspective_documents, reasoning_documents])
def test_held_out_numbers_and_names_are_in_no_training_question(generate: Callable[..., Made]) -> None:
    made = list(generate("x", 1_200, 0, 0.2))
    names: dict[bool, set[str]] = {True: set(), False: set()}
    for document, unseen in made:
        names[unseen] |= set(re.findall(r"\b[A-Z][a-z]+", document.turns[0].text)) - FIRST_WORDS
    assert sum(unseen for _, unseen in made) / len(made) == pytest.approx(0.2, abs=0.08)
    assert not names[True] & names[False]
    assert len(names[True]) > 20


def test_generators_are_deterministic_and_grow_at_the_end() -> None:
    for generate in (perspective_documents, reasoning_documents):
        assert list(generate("x", 30, 1, 0.2)) == list(generate("x", 60, 1, 0.2))[:30]
        assert list(generate("x", 30, 1, 0.2)) != list(generate("x", 30, 2, 0.2))
    assert list(self_documents("x", 30, 1, "Ada")) == list(self_documents("x", 60, 1, "Ada"))[:30]


def test_the_model_says_its_name_and_claims_no_more_than_is_true() -> None:
    made = list(self_documents("self", 600, 0, "Ada"))
    answers = [document.turns[1].text for document in made]
    assert any("My name is Ada." in answer for answer in answers)
    assert not any("{" in turn.text or "Codette" in turn.text for d in made for turn in d.turns)
    listed = next(answer for answer in answers if "Newton" in answer)
    said = listed.split(". ")[-1].strip(".").lower().replace("da vinci", "davinci")
    assert tuple(re.split(r", | and ", said)) == PERSPECTIVES
    assert len({document.turns[0].text for document in made}) > 250
