"""No error quotes what somebody wrote: files with texts, spoiled, and files with texts in place of others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grpo.feedback import read_feedback
from personality_common.errors import ToolkitError
from personality_common.printable import described
from personality_common.vocabulary import load_vocabulary
from pretrain.character.records import read_examples
from pretrain.data.conversations import DataConfig, ReadSummary, iter_distinct_texts
from pretrain.personality.evaluation import read_map

SECRET = "since my father died in May I drink every evening, zyxomma"
CHAT = {"messages": [{"role": "user", "content": SECRET}, {"role": "assistant", "content": SECRET}]}
Pt = Callable[..., Any]


def conversations(path: Path) -> object:
    return list(iter_distinct_texts(DataConfig(str(path)), ReadSummary()))


FILES: dict[str, tuple[object, Callable[[Path], object]]] = {
    "conversations": (CHAT, conversations),
    "vocabulary": ({"tokens": list(load_vocabulary().tokens)}, load_vocabulary),
    "labels": ({"joy": ["joyful", "happy"]}, lambda path: read_map(path, load_vocabulary())),
    "feedback": (
        {"id": "1", "text": SECRET, "candidates": [{"tokens": ["joyful"], "reward": 1.0}]},
        lambda path: read_feedback(path, load_vocabulary().tokens),
    ),
    "characters": (
        json.loads((Path(__file__).parents[2] / "fixtures" / "characters.jsonl").read_text().splitlines()[0]),
        read_examples,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_spoiled_file_is_not_quoted(name: str, tmp_path: Path) -> None:
    document, read = FILES[name]
    path = tmp_path / "file.jsonl"
    refused = 0
    for mutant in (*spoiled(document), CHAT, [SECRET] * 400, {"tokens": [SECRET] * 400}):
        for text in (json.dumps(mutant), json.dumps(mutant)[:-9], f"{json.dumps(mutant)}\n{SECRET}"):
            path.write_text(text)
            said = refusal(read, path)
            refused += said is not None
            assert "zyxomma" not in (said or "")
            assert "father" not in (said or "")
    assert refused >= 5


def refusal(read: Callable[[Path], object], path: Path) -> str | None:
    try:
        read(path)
    except ToolkitError as error:
        return str(error)
    return None


def spoiled(document: object) -> list[object]:
    """With the secret in the place of one thing after another, of long lists the first two."""
    found: list[object] = [SECRET, {SECRET: [SECRET]}, [SECRET]]
    if isinstance(document, dict):
        for key, value in document.items():
            rest = {other: document[other] for other in document if other != key}
            found += [rest | {key: one} for one in spoiled(value)] + [rest | {SECRET: value}]
    if isinstance(document, list):
        for i, value in list(enumerate(document))[:2]:
            found += [[*document[:i], one, *document[i + 1 :]] for one in spoiled(value)]
    return found


def test_a_chat_given_as_a_vocabulary_is_one_short_line(pt: Pt, tmp_path: Path) -> None:
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps(CHAT | {"more": [SECRET] * 99}))
    said = pt("pretrain", "--data", chat, "--output-dir", tmp_path / "run", "--tokens", chat)
    assert said.code == 3
    assert said.err == f'error: {chat}: must be {{"tokens": [...]}}, got an object of 2 entries\n'


def test_a_token_is_quoted_and_a_sentence_is_not() -> None:
    assert described("self pitying") == "'self pitying'"
    assert described(SECRET) == "a text of 58 characters"
    assert described("x" * 41) == "a text of 41 characters"
    assert described([SECRET]) == "a list of 1"
    assert described({SECRET: 1}) == "an object of 1 entries"
    assert (described(3), described(None)) == ("3", "None")
