"""Bits per byte, answers, and the command that says them."""

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from personality_common.errors import DataError
from personality_common.terminal.progress import SILENT, Silent
from pretrain.lm import answers, bits, evaluation
from pretrain.lm.answers import is_valid_call, measure_abstention, measure_calls, measure_reasoning, sample
from pretrain.lm.bits import model_bits, tag_bits, xz_bits
from pretrain.lm.chat import END_ID, SPECIAL_IDS, Document, Turn, call_text, signature_text
from pretrain.lm.cli import lm
from pretrain.lm.config import EvalConfig
from pretrain.lm.model import Decoder
from pretrain.lm.run import Run
from pretrain.lm.tokenizer import Tokenizer

WEATHER = signature_text("get_weather", "", {"city": "string"})
ALARM = signature_text("set_alarm", "", {"time": "string", "label": "string"})
RIGHT = call_text("get_weather", {"city": "Oslo"})


def asked(role: Any, text: str, name: str = "1") -> Document:
    turns = (
        Turn("tools", f"{WEATHER}\n{ALARM}", False),
        Turn("user", f"{name}?", False),
        Turn(role, text, True),
    )
    return Document(name, "tools", name, None, turns)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch, lm_run: Run) -> dict[str, str]:
    """A model that says, after a prompt with a name in it, what stands here under the name."""
    found: dict[str, str] = {}

    def generate(model: Any, prompt: list[int], most: int, stop: tuple[int, ...]) -> Iterator[int]:
        text = lm_run.tokenizer.decode(prompt)
        assert text.endswith("<|assistant|>")
        assert stop == (END_ID,)
        (said,) = (answer for name, answer in found.items() if f"{name}?" in text)
        for token in ("<|invoke|>", "<|none|>"):
            if said.startswith(token):
                yield SPECIAL_IDS[token]
                said = said.removeprefix(token)
        yield from lm_run.tokenizer.encode(said)

    monkeypatch.setattr(answers, "generate", generate)
    return found


def test_calls_are_counted_by_what_was_said(lm_run: Run, says: dict[str, str]) -> None:
    """Right; right but for a space; another city; another tool; none; no call; no JSON; no such argument."""
    said = {
        "a": f"<|invoke|>{RIGHT}",
        "b": "<|invoke|>" + RIGHT.replace(":", ": "),
        "c": "<|invoke|>" + RIGHT.replace("Oslo", "Rome"),
        "d": f"<|invoke|>{call_text('set_alarm', {'time': '7', 'label': ''})}",
        "e": "<|none|>no",
        "f": RIGHT,
        "g": '<|invoke|>{"name":',
        "h": f"<|invoke|>{call_text('get_weather', {'town': 'Oslo'})}",
    }
    says |= said
    found = measure_calls(
        lm_run.model, lm_run.tokenizer, [asked("call", RIGHT, name) for name in said], SILENT
    )
    assert found is not None
    assert (found.examples, found.exact, found.tool) == (8, 1 / 8, 4 / 8)
    assert (found.valid, found.abstained) == (4 / 6, 1 / 8)
    assert measure_calls(lm_run.model, lm_run.tokenizer, [], SILENT) is None


def test_abstention_and_reasoning_are_counted(lm_run: Run, says: dict[str, str]) -> None:
    says |= {"a": "<|none|>whatever", "b": "I have no tool for that.", "c": f"<|invoke|>{RIGHT}"}
    documents = [asked("none", "I have no tool for that.", name) for name in "abc"]
    found = measure_abstention(lm_run.model, lm_run.tokenizer, documents, SILENT)
    assert found == answers.Share(3, 1 / 3)
    says.clear()
    says |= {"d": "7 * 6 = 43\nAnswer: 42", "e": "6 * 7 = 42", "f": "Answer: 41", "g": "Answer: 42\nor so"}
    turn = Turn("assistant", "6 * 7 = 42\nAnswer: 42", True)
    documents = [Document(n, "r", n, None, (Turn("user", f"{n}?", False), turn)) for n in says]
    assert measure_reasoning(lm_run.model, lm_run.tokenizer, documents, SILENT) == answers.Share(4, 1 / 4)


def test_a_valid_call_has_the_arguments_of_a_tool_on_offer() -> None:
    offered = f"{WEATHER}\n{ALARM}"
    assert is_valid_call(RIGHT, offered)
    for text in (
        "[]",
        "{}",
        '{"name":[],"arguments":{}}',
        RIGHT[:-1],
        '{"arguments":[],"name":"get_weather"}',
    ):
        assert not is_valid_call(text, offered)
    assert not is_valid_call(RIGHT, ALARM)
    assert not is_valid_call("[" * 100_000, offered)


@torch.no_grad()
def test_bits_are_those_of_each_document_alone(lm_run: Run) -> None:
    """One of them is longer than the context, whose second piece knows nothing of the first but a token."""
    long = Document("t", "t", "t", None, (Turn("text", " ".join(map(str, range(90))), True),))
    documents = [asked("call", RIGHT), asked("none", "no tool"), long]
    length, expected = lm_run.model.config.context_length, 0.0
    for document in documents:
        ids, loss = lm_run.tokenizer.encode_document(document)
        for start in range(0, len(ids) - 1, length):
            piece, bearing = (
                torch.tensor(ids[start : start + length + 1]),
                loss[start + 1 : start + length + 1],
            )
            nats = F.cross_entropy(lm_run.model(piece[None, :-1])[0], piece[1:], reduction="none")
            expected += float(nats[torch.tensor(bearing)].sum()) / math.log(2)
    assert len(lm_run.tokenizer.encode_document(long)[0]) > length + 1
    assert model_bits(lm_run.model, lm_run.tokenizer, documents) == pytest.approx(expected, rel=1e-5)


def test_what_knows_nothing_needs_the_logarithm_of_its_vocabulary(lm_run: Run) -> None:
    even = Decoder(lm_run.model.config)
    torch.nn.init.zeros_(even.embedding.weight)
    document = asked("call", RIGHT)
    targets = sum(lm_run.tokenizer.encode_document(document)[1])
    expected = targets * math.log2(lm_run.model.config.vocab_size)
    assert model_bits(even, lm_run.tokenizer, [document]) == pytest.approx(expected, rel=1e-5)


def test_xz_knows_what_it_was_given() -> None:
    """Letters at random cost 6 bits each, known ones next to nothing, and so does what bears no loss."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = "".join(random.Random(0).choices(letters, k=4_000))
    new = Document("a", "a", "a", None, (Turn("text", text, True),))
    told = Document("b", "a", "b", None, (Turn("user", text, False), Turn("assistant", "yes", True)))
    assert 6 < xz_bits(b"", [new]) / 4_000 < 6.5
    assert xz_bits(f"before {text} after".encode(), [new]) < 400
    assert xz_bits(b"", [told]) < 400
    assert bits.bytes_of(told) == 3


def test_tags_are_shuffled_to_another_of_those_there(lm_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[str | None]] = []

    def fake(model: Any, tokenizer: Tokenizer, documents: Any) -> float:
        heard.append([document.perspective for document in documents])
        return 100.0 * len(heard)

    monkeypatch.setattr(bits, "model_bits", fake)
    turns = (Turn("user", "why?", False), Turn("assistant", "so so.", True))
    names: list[Any] = ["newton", "quantum", "newton", "systems"]
    documents = [Document(str(i), "p", str(i), name, turns) for i, name in enumerate(names)]
    assert tag_bits(lm_run.model, lm_run.tokenizer, documents) == bits.TagBits(4, 100 / 24, 200 / 24)
    assert heard == [names, ["quantum", "systems", "quantum", "newton"]]


def test_a_sample_goes_on_from_a_documents_beginning(lm_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = []

    def generate(model: Any, prompt: list[int], most: int, stop: Any) -> Iterator[int]:
        prompts.append(lm_run.tokenizer.decode(prompt))
        yield from lm_run.tokenizer.encode(" and so on")

    monkeypatch.setattr(answers, "generate", generate)
    text = Document(
        "t", "text", "t", None, (Turn("text", "one two three four five six seven eight nine", True),)
    )
    made = sample(lm_run.model, lm_run.tokenizer, text)
    assert made == answers.Sample("text", "one two three four five six seven eight", " and so on")
    assert sample(lm_run.model, lm_run.tokenizer, asked("call", RIGHT)).prompt == "1?"
    assert prompts[0] == "<|text|>one two three four five six seven eight"
    assert prompts[1].endswith("<|user|>1?<|end|><|assistant|>")


def test_the_command_prints_a_run_beside_its_baselines(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = evaluation.evaluate(EvalConfig(trained_run, examples=2), Silent())
    monkeypatch.setattr(evaluation, "evaluate", lambda *given: made)
    printed = CliRunner().invoke(lm, ["eval", str(trained_run)], catch_exceptions=False).stdout
    for word in ("Kneser-Ney", "xz", "held-out values", "held-out phrasings", "no tool fits", "reasoning"):
        assert word in printed
    found = json.loads(CliRunner().invoke(lm, ["eval", str(trained_run), "--json"]).stdout)
    assert set(found["bits"]) == {"tools", "reasoning", "text"}
    # It has seen 24 steps: more than nothing, less than counting.
    for source in found["bits"].values():
        assert source["kneser_ney"] < source["model"] < math.log2(640)
        assert 0 < source["xz"] < 8
    assert found["calls"]["held-out values"]["examples"] == 2
    assert found["abstention"]["examples"] == 2
    assert {one["source"] for one in found["samples"]} == {"tools", "reasoning", "text"}
    assert found["tags"] is None


def test_data_that_are_not_the_runs_must_be_named(lm_data: Path, trained_run: Path, tmp_path: Path) -> None:
    for path in trained_run.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | {"data": {"fingerprint": "0" * 64}}))
    with pytest.raises(DataError, match="holds other documents than the run was trained with"):
        evaluation.evaluate(EvalConfig(tmp_path), Silent())
    (tmp_path / "run.json").write_text(json.dumps(record | {"config": {}}))
    with pytest.raises(DataError, match="its record does not say what it was trained on"):
        evaluation.evaluate(EvalConfig(tmp_path), Silent())
