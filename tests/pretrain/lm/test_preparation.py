"""Weights that are prepared: what a model can do with them before it has learned anything."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from personality_common.errors import ConfigError
from personality_common.terminal.progress import Silent
from pretrain.lm.chat import ROLE_TOKENS, SPECIAL_IDS, Document, Turn
from pretrain.lm.config import SIZES, ModelConfig, TokenizerConfig, TrainConfig, sized
from pretrain.lm.data.tools import tool_documents
from pretrain.lm.model import Decoder
from pretrain.lm.packing import Encoded, Fill, pack
from pretrain.lm.pipeline import train_lm
from pretrain.lm.preparation import fields_of, prepare
from pretrain.lm.tokenizer import Tokenizer, train_tokenizer
from pretrain.lm.topics import TOPICS, Topics, count_topics
from pretrain.lm.training import train

SHAPE = sized("demo,context_length=200", 700)


@pytest.fixture(scope="module")
def examples() -> list[Document]:
    return list(tool_documents("tools", 500, 0, 0.2))


@pytest.fixture(scope="module")
def spaced(examples: Sequence[Document]) -> Tokenizer:
    """Its words are the same tokens after a space and after a quote."""
    texts = [turn.text for document in examples[:150] for turn in document.turns]
    return train_tokenizer(texts, TokenizerConfig(SHAPE.vocab_size, spaces=True))


def prepared(shape: ModelConfig, topics: Topics | None) -> Decoder:
    torch.manual_seed(0)
    model = Decoder(shape)
    prepare(model, topics, seed=0)
    return model


@torch.inference_mode()
def copied(model: Decoder) -> float:
    """Of random tokens that come a second time, from the third on: the share that is foretold."""
    first = torch.randint(20, SHAPE.vocab_size, (8, 60), generator=torch.manual_seed(1))
    said = model(torch.cat((first, first), 1))[:, 61:-1].argmax(-1)
    return float((said == first[:, 2:]).float().mean())


def test_an_untrained_model_says_again_what_it_reads_again() -> None:
    torch.manual_seed(0)
    assert copied(Decoder(SHAPE)) < 0.02
    assert copied(prepared(SHAPE, None)) > 0.7


def conversation(number: int, question: str, answer: str) -> Document:
    turns = (Turn("user", question, False), Turn("call", answer, True))
    return Document(str(number), "s", "g", None, turns)


def test_topics_of_two_kinds_of_question(tokenizer: Tokenizer) -> None:
    """By hand: a word of half the questions and one of their calls have ln 2 nats in common, both alike;
    words of different kinds have none; and what a call copies has no part in it."""
    documents = [conversation(i, *("ab" if i % 2 else "xy")) for i in range(20)]
    asked, answered = count_topics([*documents, conversation(20, "q", "q")], tokenizer)
    a, b, x, y, q = (tokenizer.encode(letter)[0] for letter in "abxyq")
    shared = asked @ answered.T
    assert asked.shape == answered.shape == (tokenizer.vocab_size, TOPICS)
    assert shared[a, b] == pytest.approx(shared[x, y])
    assert shared[a, b] > 1
    assert abs(shared[a, y]) + abs(shared[x, b]) < 1e-5
    assert set(np.flatnonzero(asked.any(1))) == {a, x}
    assert set(np.flatnonzero(answered.any(1))) == {b, y}
    assert not asked[q].any()
    # Three questions are the fewest that count.
    few = count_topics(documents[:4], tokenizer)
    assert not few[0].any()
    assert not few[1].any()


def test_an_untrained_model_sees_whether_a_tool_fits(examples: Sequence[Document], spaced: Tokenizer) -> None:
    """From topics counted in training documents; the questions are others, in words that they never have."""
    topics = count_topics((one for one in examples if not one.held_out), spaced)
    model = prepared(SHAPE, topics)
    call, none = (SPECIAL_IDS[ROLE_TOKENS[role]] for role in ("call", "none"))
    margins: dict[bool, list[float]] = {True: [], False: []}
    for document in (one for one in examples if one.held_out):
        ids = spaced.encode_prompt(replace(document, turns=document.turns[:2]))[-SHAPE.context_length :]
        with torch.inference_mode():
            logits = model(torch.tensor([ids]))[0, -1]
        margins[document.turns[2].role == "call"].append(float(logits[call] - logits[none]))
    fits, other = (np.array(margins[fit]) for fit in (True, False))
    assert (fits > 1).mean() > 0.9
    assert other.mean() < fits.mean() - 1


def test_what_is_held_stays_and_all_else_learns(tmp_path: Path) -> None:
    model = prepared(SHAPE, None)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    rng = random.Random(0)
    documents: list[Encoded] = [([rng.randrange(700) for _ in range(64)], [1.0] * 64) for _ in range(16)]
    rows = np.stack(list(pack(documents, SHAPE.context_length, Fill(SHAPE.context_length))))
    config = TrainConfig(tmp_path, tmp_path, tmp_path, tokens=0.002, batch_size=4, prepare=True)
    train(model, rows, rows, config, "cpu", tmp_path / "checkpoints", Silent())
    after = dict(model.named_parameters())
    f, size = fields_of(SHAPE), SHAPE.head_size
    held = {
        "embedding.weight": (slice(None), f.asked),
        "layers.0.attention.query.bias": (slice(2 * size, 3 * size),),
        "layers.1.feed_forward.down.bias": (f.topic,),
        "layers.2.attention_norm.weight": (f.topic,),
    }
    for name, part in held.items():
        assert torch.equal(after[name][part], before[name][part]), name
    # Weights decay all the same.
    key = "layers.2.attention.key.weight"
    assert torch.allclose(after[key][2 * size : 3 * size], before[key][2 * size : 3 * size], rtol=0.02)
    for name, parameter in after.items():
        assert not torch.equal(parameter, before[name]), name


def test_shapes_without_room_are_refused(tmp_path: Path) -> None:
    for change in ("layers=2", "heads=2", "embedding_size=120", "rope_base=1e4", "context_length=60000"):
        with pytest.raises(ConfigError, match="--prepare needs a --size of 3 layers, 4 heads"):
            fields_of(sized(f"demo,{change}", 700))
    fields_of(SIZES["demo"])


def test_a_prepared_run_begins_with_what_was_counted(train_config: TrainConfig, tmp_path: Path) -> None:
    """Its first guesses about what comes again are better than all alike."""
    size = "demo,context_length=128,feed_forward_size=32"
    config = replace(train_config, output_dir=tmp_path / "run", size=size, tokens=0.001, prepare=True)
    history = train_lm(config, Silent()).history
    assert history[0]["val_loss"] < math.log(640)
    assert history[-1]["val_loss"] < history[0]["val_loss"]
