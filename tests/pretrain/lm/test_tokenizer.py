"""The tokenizer against llama.cpp's own, on strings that are hard to split; and what is no tokenizer."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personality_common.errors import ConfigError, DataError, ToolkitError
from pretrain.lm.chat import SPECIAL_IDS, SPECIAL_TOKENS, Document, LossConfig, Turn
from pretrain.lm.config import ModelConfig, TokenizerConfig
from pretrain.lm.export.gguf import write_gguf
from pretrain.lm.llama import Llama
from pretrain.lm.model import Decoder
from pretrain.lm.tokenizer import MISSING, Tokenizer, load_tokenizer, train_tokenizer

WORDS = (
    "'s 'LL 're ’ve don't a Zz _ -- … « !? € \\ \" http://a.b/c?d=e&f#g 1 42 2026 3.14 ½ Ⅷ ٣ ² "
    "é e\u0301 ß İ ﬁ 日本 한국어 ไทย עברית العربية हिन्दी \U0001d54f \U0001f469\u200d\U0001f680 <| |> </s> <s>"
)
SPACES = " | \t\t|\n|\r\n|\u00a0|\u2028|\u200b|\u3000|\x00|\x01|\x7f|\ufeff|\ufffd|\uffff|\U0010ffff"
HARD = (*WORDS.split(), *SPACES.split("|"), *SPECIAL_TOKENS, *("  ", " " * 3))


def hard_strings(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    made = ["".join(draw.choices(HARD, k=draw.randint(1, 12))) for _ in range(count // 2)]
    # Surrogates are no text.
    codes = [c for c in range(0x11000) if not 0xD800 <= c < 0xE000]
    return made + ["".join(map(chr, draw.choices(codes, k=draw.randint(1, 8)))) for _ in range(count // 2)]


@pytest.mark.parametrize(("digits", "spaces"), [(False, False), (True, False), (False, True)])
def test_ids_are_llama_cpps(digits: bool, spaces: bool, texts: list[str], tmp_path: Path) -> None:
    tokenizer = train_tokenizer(texts, TokenizerConfig(600, digits, spaces))
    model = Decoder(ModelConfig(600, 32, 1, 1, 32, 32))
    write_gguf(tmp_path / "model.gguf", model, tokenizer, "f32", {})
    llama = Llama(tmp_path / "model.gguf")
    strings = [*hard_strings(600, seed=int(digits)), "  two", " a  b   c ", "\n\n  x\t\ty", " 's  -- ", "   "]
    assert [s for s in strings if llama.tokenize(s) != tokenizer.encode(s)] == []
    assert [s for s in strings if tokenizer.decode(tokenizer.encode(s)) != s] == []
    # All special tokens, as templates write them.
    assert llama.tokenize("".join(SPECIAL_TOKENS), special=True) == list(range(len(SPECIAL_TOKENS)))


def test_no_text_makes_a_special_token(tokenizer: Tokenizer) -> None:
    for text in (*SPECIAL_TOKENS, "".join(SPECIAL_TOKENS), *hard_strings(400, seed=2)):
        assert min(tokenizer.encode(text)) >= len(SPECIAL_TOKENS)


def test_a_text_full_of_their_names_teaches_none_of_them(texts: list[str]) -> None:
    names = ["".join(SPECIAL_TOKENS) * 50] * 20
    with pytest.raises(ToolkitError, match="--vocab-size must be what the texts can fill"):
        train_tokenizer(names, TokenizerConfig(1024))
    tokenizer = train_tokenizer([*names, *texts], TokenizerConfig(640))
    assert tokenizer.tokens[: len(SPECIAL_TOKENS)] == SPECIAL_TOKENS
    assert min(tokenizer.encode(names[0])) >= len(SPECIAL_TOKENS)


def test_training_twice_gives_the_same_bytes(texts: list[str], tokenizer: Tokenizer) -> None:
    again = train_tokenizer(texts, TokenizerConfig(tokenizer.vocab_size))
    assert again.data == tokenizer.data
    assert (again.digits, again.vocab_size, len(again.tokens)) == (False, 640, 640)


def test_digits_are_tokens_of_their_own(texts: list[str]) -> None:
    digits = train_tokenizer([*texts, "1234 " * 1000], TokenizerConfig(600, digits=True))
    assert [digits.tokens[i] for i in digits.encode("1234")] == ["1", "2", "3", "4"]


def test_spaces_are_tokens_of_their_own(texts: list[str]) -> None:
    """So a word is the same tokens wherever it stands."""
    tokenizer = train_tokenizer([*texts, "new york new york " * 1000], TokenizerConfig(600, spaces=True))
    assert [tokenizer.tokens[i] for i in tokenizer.encode(" new york")] == ["Ġ", "new", "Ġ", "york"]
    # An 's alone is another matter: the pattern knows it behind a word.
    words = [word for word in WORDS.split() if not word.startswith("'")]
    for word in (*words, "new", "Yorkshire", '","', "12:30"):
        for space in (" ", "\n", "   "):
            assert tokenizer.encode(f"x{space}{word}")[-len(tokenizer.encode(word)) :] == tokenizer.encode(
                word
            )
            assert tokenizer.encode(space) == tokenizer.encode(space[0]) * len(space)


def test_a_document_in_tokens(tokenizer: Tokenizer) -> None:
    turns = (
        Turn("system", "Be <|end|> kind.", False),
        Turn("tools", '{"name":"t"}', False),
        Turn("user", "First", False),
        Turn("none", "Sorry", True),
        Turn("user", "Again", False),
        Turn("call", '{"name":"t"}', True),
        Turn("result", "5", False),
        Turn("assistant", "Five", True),
    )
    ids, loss = tokenizer.encode_document(Document("1", "s", "g", "quantum", turns))
    written = (
        '<|system|>Be <|end|> kind.<|end|><|tools|>{"name":"t"}<|end|><|user|>First<|end|>'
        "<|assistant|><|none|>Sorry<|end|><|user|><|quantum|>Again<|end|>"
        '<|assistant|><|invoke|>{"name":"t"}<|end|><|result|>5<|end|><|assistant|>Five<|end|>'
    )
    assert tokenizer.decode(ids) == written
    assert ids.count(SPECIAL_IDS["<|end|>"]) == len(turns)
    learned = tokenizer.decode([i for i, bears in zip(ids, loss, strict=True) if bears])
    assert learned == '<|none|>Sorry<|end|><|invoke|>{"name":"t"}<|end|>Five<|end|>'
    prompt = tokenizer.encode_prompt(Document("1", "s", "g", None, turns[:3]))
    assert tokenizer.decode(prompt).endswith("<|user|>First<|end|><|assistant|>")


def test_how_much_tokens_of_a_document_count(tokenizer: Tokenizer) -> None:
    """By hand: all that is asked .25, but for marks; of a call and of none the first token 3, the rest 1."""
    turns = (
        Turn("tools", "t", False),
        Turn("user", "!", False),
        Turn("call", "?", True),
        Turn("user", "!", False),
        Turn("none", "?", True),
        Turn("assistant", "?", False),
    )
    document = Document("1", "s", "g", "newton", turns)
    ids, weights = tokenizer.encode_weighted(document, LossConfig(asked=0.25, first=3.0))
    assert ids == tokenizer.encode_document(document)[0]
    asked, answer = [0, 0.25, 0.25], [0, 3, 1, 1]
    assert weights == [0, 0, 0, *asked, *answer, 0, *asked, *answer, 0, 0, 0]
    assert tokenizer.encode_weighted(document, LossConfig())[1] == tokenizer.encode_document(document)[1]


def test_plain_text_in_tokens(tokenizer: Tokenizer) -> None:
    ids, loss = tokenizer.encode_document(Document("1", "s", "g", None, (Turn("text", "Once", True),)))
    assert tokenizer.decode(ids) == "<|text|>Once<|end|>"
    assert loss == [False] + [True] * (len(ids) - 1)


def test_impossible_documents_are_refused(tokenizer: Tokenizer) -> None:
    text: Any = (Turn("text", "Once", True),)
    with pytest.raises(DataError, match="perspective needs a user's turn"):
        tokenizer.encode_document(Document("1", "s", "g", "newton", text))
    strange: Any = (Turn("root", "Once", True),)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a role must be one of text, system"):
        tokenizer.encode_document(Document("1", "s", "g", None, strange))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["added_tokens"].reverse(), "special tokens must be"),
        (lambda t: t["added_tokens"].pop(), "special tokens must be"),
        (lambda t: t.update(pre_tokenizer=None), "not a tokenizer"),
        (lambda t: t["pre_tokenizer"].update(add_prefix_space=True), "byte-level BPE as pt lm tokenizer"),
        (lambda t: t.update(normalizer={"type": "Lowercase"}), "byte-level BPE as pt lm tokenizer"),
        (lambda t: t["model"]["vocab"].pop("!"), "ids must be 0 to"),
        (lambda t: t.update(model={"type": "WordLevel"}), "not a tokenizer"),
    ],
)
def test_other_tokenizers_are_refused(
    tokenizer: Tokenizer, tmp_path: Path, change: Callable[[Any], object], message: str
) -> None:
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).tokens == tokenizer.tokens
    parsed = json.loads(tokenizer.data)
    change(parsed)
    (tmp_path / "tokenizer.json").write_text(json.dumps(parsed))
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)


def test_sizes_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="--vocab-size must be between"):
        TokenizerConfig(300)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ToolkitError, match=r"pip install 'personality-toolkit\[lm\]'"):
        train_tokenizer(["a"], TokenizerConfig(600))
    assert MISSING.count("\n") == 0
