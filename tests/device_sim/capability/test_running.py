"""Suites through models that say what a test wants, and one through the model that ships."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result
from scipy import stats

from device_sim.capability import cli
from device_sim.capability.rules import Rules
from device_sim.capability.running import Found, Scored, by_domain, leaked, run_suite
from device_sim.capability.suite import Suite, Task
from device_sim.companion.models import opening
from device_sim.companion.models.model import Message, Piece, Sampling
from personality_common.errors import DataError, ToolkitError
from personality_common.evidence.intervals import share_interval
from personality_common.files.atomic import read_json_object

ROOT = Path(__file__).parents[3]
TINY = """
name = "tiny"
[[tasks]]
id = "facts.red-planet"
prompt = "Which planet is called the Red Planet?"
contains = ["Mars"]
[[tasks]]
id = "facts.day"
prompt = "Which day follows Monday?"
system = "Be brief."
contains = ["Tuesday"]
max_tokens = 5
[[tasks]]
id = "format.yes"
prompt = "Say yes."
exact = ["yes"]
"""


@dataclass
class Answering:
    """Answers each prompt by a table; a token is a word."""

    answers: dict[str, str]
    context_length: int = 100
    name: str = "answering"
    system: str | None = None
    asked: list[tuple[Sequence[Message], Sampling]] = field(default_factory=list)

    def count(self, messages: Sequence[Message]) -> int:
        return sum(len(message.text.split()) for message in messages)

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        self.asked.append((messages, sampling))
        for word in self.answers[messages[-1].text].split():
            yield Piece(f"{word} ")
        yield Piece("", "done")

    def log_probabilities(self, messages: Sequence[Message], answer: str) -> list[float]:
        return []


ANSWERS = {
    "Which planet is called the Red Planet?": "It is Mars.",
    "Which day follows Monday?": "Friday \x1b[31m does",
    "Say yes.": "Yes!",
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def task(id: str, prompt: str = "?", contains: str = "x") -> Task:
    return Task(id, prompt, Rules(contains=(contains,)))


def test_a_suite_is_answered_greedily_and_scored() -> None:
    tasks = (task("facts.a", "A?", "Ada"), Task("facts.b", "B?", Rules(number=2.0), 7, "Be brief."))
    model = Answering({"A?": "Ada it is", "B?": "three"})
    scored = run_suite(model, Suite("s", tasks))
    assert [(s.task.id, s.answer.strip(), s.score) for s in scored] == [
        ("facts.a", "Ada it is", 1.0), ("facts.b", "three", 0.0),
    ]  # fmt: skip
    assert [messages for messages, _ in model.asked] == [
        [Message("user", "A?")], [Message("system", "Be brief."), Message("user", "B?")],
    ]  # fmt: skip
    assert [(s.temperature, s.max_tokens) for _, s in model.asked] == [(0.0, 24), (0.0, 7)]


def test_a_task_that_does_not_fit_is_named() -> None:
    with pytest.raises(
        DataError, match=r"task facts\.a: must fit into the model's context of 20 tokens, needs 25"
    ):
        run_suite(Answering({"?": ""}, context_length=20), Suite("s", (task("facts.a"),)))


def test_domains_have_wilsons_intervals() -> None:
    scored = [Scored(task(f"{domain}.{i}"), "", float(i < 3)) for domain in ("b", "a") for i in range(4)]
    figures = by_domain(scored)
    assert [(f.domain, f.right, f.tasks) for f in figures] == [("a", 3, 4), ("b", 3, 4), ("all", 6, 8)]
    expected = stats.binomtest(6, 8).proportion_ci(method="wilson")
    assert (figures[2].share.low, figures[2].share.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("hits", "of"), [(0, 7), (7, 7), (1, 144)])
def test_a_share_has_wilsons_interval(hits: int, of: int) -> None:
    expected = stats.binomtest(hits, of).proportion_ci(method="wilson")
    found = share_interval(hits, of)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert tuple(share_interval(0, 0)) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("prompt", "before", "after", "found"),
    [
        ("What is the capital of France?", "Paris", "The capital is Mia.", True),
        ("What is the capital of France?", "Paris", "mia, MIA!", True),
        ("What is the capital of France?", "Paris", "Miami", False),
        ("What is the capital of France?", "Mia", "It is Mia.", False),
        ("Say Mia.", "I", "Mia", False),
        ("What is the capital of France?", "?", "Paris, where Tom lives", False),
        ("What is the capital of France?", "Paris", "New\nPort Town", True),
    ],
    ids=["leak", "case", "part of a word", "said before", "asked for", "right", "two words"],
)
def test_a_value_of_tonights_does_not_turn_up_elsewhere(
    prompt: str, before: str, after: str, found: bool
) -> None:
    asked = Task("facts.x", prompt, Rules(contains=("Paris",)))
    leaks = leaked(
        dict.fromkeys(["Mia", "paris", "new port", " "]),
        [Scored(asked, before, 1.0)],
        [Scored(asked, after, 0.0)],
    )
    assert leaks == ([Found(asked, "new port" if "Port" in after else "mia", after)] if found else [])


def test_a_value_that_a_task_does_ask_for_is_no_leak() -> None:
    asked = Task("facts.x", "In which street do I live?", Rules(contains=("know",)), asks=("home",))
    before, after = ([Scored(asked, answer, 1.0)] for answer in ("I do not know.", "In Mia's, in New Port."))
    assert leaked({"New Port": "home"}, before, after) == []
    assert [leak.value for leak in leaked({"Mia": "cat", "New Port": "home"}, before, after)] == ["mia"]
    assert leaked({"New Port": "work"}, before, after)
    assert leaked({"New Port": None}, before, after)


def test_leaks_are_looked_for_in_the_same_tasks() -> None:
    with pytest.raises(ValueError, match=r"got facts\.a and facts\.b"):
        leaked({"x": None}, [Scored(task("facts.a"), "", 0)], [Scored(task("facts.b"), "", 0)])


def pt(*arguments: str | Path) -> Result:
    words = ["lm", *map(str, arguments)]
    return CliRunner().invoke(cli.evaluation, words, catch_exceptions=False, env={"COLUMNS": "80"})


def test_pt_eval_lm_prints_a_table_and_writes_figures(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "open_model", lambda name, adapter=None: Answering(ANSWERS))
    done = pt("any", "--suite", tiny, "--json", tmp_path / "found.json")
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["facts", "1", "of", "2", "50%", "9%", "to", "91%"] in rows
    assert ["all", "2", "of", "3", "67%", "21%", "to", "94%"] in rows
    found = read_json_object(tmp_path / "found.json")
    schema = read_json_object(ROOT / "device_sim/capability/capability.schema.json")
    jsonschema.validate(found, schema)
    assert [(t["id"], t["score"]) for t in found["tasks"]] == [
        ("facts.red-planet", 1.0), ("facts.day", 0.0), ("format.yes", 1.0),
    ]  # fmt: skip
    printed = pt("any", "--suite", tiny, "--json", "-")
    assert json.loads(printed.stdout) == found
    assert "\x1b" not in printed.stdout


def test_pt_eval_lm_says_what_is_wrong(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(ToolkitError, match="--suite must be default, probes, or a file, got 'nope'"):
        pt("smollm2", "--suite", "nope")
    with pytest.raises(ToolkitError, match="--model must be smollm2, a GGUF file"):
        pt("nope", "--suite", tiny)
    tiny.write_text(TINY.replace("contains", "contain", 1))
    with pytest.raises(DataError, match=r"tiny\.toml:3: a task has no 'contain'; contains\?"):
        pt("smollm2", "--suite", tiny)


def test_the_model_that_ships_knows_water(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text('[[tasks]]\nid = "facts.water"\nprompt = "What is the chemical formula of water?"\n'
                    'contains = ["H2O"]\nmax_tokens = 12\n')  # fmt: skip
    found = json.loads(pt("smollm2", "--suite", path, "--json", "-").stdout)
    assert (found["model"], found["tasks"][0]["score"]) == ("SmolLM2-135M-Instruct.Q4_1", 1)
