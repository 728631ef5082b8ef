"""The toolkit's own tasks, and files of users' that are spoiled in every way."""

from collections import Counter
from pathlib import Path

import pytest

from device_sim.capability.personal import Told, personal_suite
from device_sim.capability.rules import Rules
from device_sim.capability.suite import default_suite, probes, read_suite
from personality_common.errors import DataError

TASK = '[[tasks]]\nid = "facts.one"\nprompt = "One?"\ncontains = ["one"]\n'


def test_the_default_suite_is_large_and_even() -> None:
    suite = default_suite()
    assert Counter(task.domain for task in suite.tasks) == dict.fromkeys(
        ("arithmetic", "reasoning", "facts", "format", "summary", "style", "code", "long-context", "refusal"),
        16,
    )
    assert len({task.prompt for task in suite.tasks}) == len(suite.tasks) == 144
    assert sum(task.max_tokens for task in suite.tasks) < 3_500  # a minute of a small model's


def test_the_probes_are_of_style_and_safety() -> None:
    assert Counter(task.domain for task in probes().tasks) == {"style": 30, "safety": 30}


@pytest.mark.parametrize("suite", [default_suite, probes], ids=["default", "probes"])
def test_each_task_has_a_right_answer_and_refuses_others(suite: type) -> None:
    for task in suite().tasks:
        assert task.right, task.id  # that its rules accept it is checked where it is read
        assert task.rules.score("") == 0 or task.domain == "safety", task.id
        if task.domain not in ("style", "safety") and task.rules.refuses is None:
            assert (
                task.rules.score("I see. The weather of the moon, dear, was pale and slow, he said.") == 0
            ), task.id


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\n[contexts]\nsea = "The sea is wide."\n'
        '[[tasks]]\nid = "facts.sea"\ncontext = "sea"\nprompt = "What is wide?"\ncontains = ["sea"]\n'
        'max_tokens = 8\nsystem = "Be brief."\ntags = ["water"]\nright = ["The sea."]\n'
    )
    suite = read_suite(path)
    (task,) = suite.tasks
    assert suite.name == "mine"
    assert len(suite.fingerprint) == 64
    assert (task.id, task.domain, task.max_tokens, task.system) == ("facts.sea", "facts", 8, "Be brief.")
    assert task.prompt == "The sea is wide.\n\nWhat is wide?"
    assert task.rules == Rules(contains=("sea",))
    path.write_text(TASK)
    assert read_suite(path).name == "mine"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ": must have 1 to 5,000 tasks, [[tasks]] each"),
        ("tasks = 3", ": must have 1 to 5,000 tasks"),
        ("tasks = [3]", ":1: a task must be a table, [[tasks]]"),
        ("name = [\n\n", ": must be TOML: Invalid value (at end of document)"),
        ('name = [\n"a" "b"]', ":2: must be TOML: Unclosed array"),
        ("x = 1\n" + TASK, ": must have name, contexts and tasks only, has 'x'"),
        (TASK + "\n" + TASK, ":6: id must be unique, 'facts.one' is at line 1, too"),
        (TASK + "contain = 3", ":1: a task has no 'contain'; contains?"),
        (
            TASK + '[[tasks]]\nid = "x"\nprompt = "?"\nnumber = 1',
            ":5: id must be domain.name in small letters",
        ),
        (TASK + '[[tasks]]\nid = "a.b"\nprompt = "?"', ":5: must have a rule, one of exact"),
        (TASK + '[[tasks]]\nid = "a.b"\nnumber = 1', ":5: it must have 'prompt'"),
        (TASK + '[[tasks]]\nid = "a.b"\nprompt = "?"\nnumber = "1"', ":5: number must be a number, is '1'"),
        (
            TASK + '[[tasks]]\nid = "a.b"\nprompt = "?"\nregex = "(a"',
            ":5: regex must be a regular expression",
        ),
        (TASK + "max_tokens = 0", ":1: max_tokens must be 1 to 1024, got 0"),
        (TASK + 'context = "sea"', ":1: context must be a name in [contexts], got 'sea'"),
        (TASK + 'right = ["two"]', ":1: right must hold answers that its rules accept, they refuse 'two'"),
        ("name = 3\n" + TASK, ": name must be a text"),
        ("[contexts]\na = 1\n" + TASK, ": contexts['a'] must be a string, is 1"),
    ],
)
def test_a_spoiled_file_is_refused_with_its_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "tasks.toml"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_suite(path)
    assert str(caught.value).startswith(f"{path}{said}")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tasks.toml"
    path.write_bytes(b"name = 'x'\n# \xff\n")
    with pytest.raises(DataError, match=r"tasks\.toml:2: must be UTF-8"):
        read_suite(path)


def test_what_was_told_is_asked_for() -> None:
    suite = personal_suite([Told("What is my sister's name?", ("Mia", "Mia Lund"))])
    (task,) = suite.tasks
    assert (task.id, task.domain) == ("personal.001", "personal")
    assert task.rules.score("Her name is Mia.") == 1
    assert task.rules.score("Miami") == 0
    with pytest.raises(DataError, match="not empty"):
        personal_suite([Told("What?", ("",))])
