"""Plain WordPiece against the tokenizer that the encoder was trained with."""

import json
import unicodedata
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from personality_common.errors import DataError, ToolkitError
from personality_common.text.bert_folder import read_wordpiece_vocabulary, wordpiece_vocabulary
from personality_common.text.encoder import find_minilm
from personality_common.text.wordpiece import MAX_TOKENS, WordPiece

FIXTURE = Path(__file__).parents[3] / "fixtures" / "conversations.jsonl"


@pytest.fixture(scope="module")
def folder() -> Path:
    return find_minilm()[0]


@pytest.fixture(scope="module")
def wordpiece(folder: Path) -> WordPiece:
    """From `vocab.txt` alone, as an app has it."""
    return WordPiece(wordpiece_vocabulary(folder).decode().split("\n")[:-1])


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def fixture_texts() -> list[str]:
    lines = FIXTURE.read_text(encoding="utf-8").splitlines()
    return [turn["value"] for line in lines for turn in json.loads(line)["conversations"]]


def test_vocabulary_is_the_file_that_came_with_the_encoder(folder: Path) -> None:
    assert wordpiece_vocabulary(folder) == (folder / "vocab.txt").read_bytes()


def test_ids_on_real_texts(wordpiece: WordPiece, tokenizer: Tokenizer) -> None:
    turns = fixture_texts()
    texts = turns + [" ".join(turns[i : i + 20]) for i in range(0, 200, 20)]
    expected = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    assert [wordpiece.ids(text) for text in texts] == expected
    assert max(map(len, expected)) == MAX_TOKENS


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\n\r\u00a0\u3000 ",
        "Café naïve Ångström ÀÉÎÕÜ ñ",
        "e\u0301 combining, İstanbul, ΣΟΦΟΣ ΟΔΟΣ, straße ẞ",
        "日本語とEnglish混在 한국어 ｆｕｌｌｗｉｄｔｈ",
        "don't—really… “quotes” ‹x› a_b $5.00 3^2 `c` ~ |",
        "👍🏽 family 👨‍👩‍👧 flag 🇫🇷",
        "zero\u200bwidth soft\u00adhyphen bell\u0007 nul\x00 \ufffd \ufeff",
        "private \ue000 use, line\u2028separator, paragraph\u2029, next\u0085line, vertical\x0btab",
        "x" * 100,
        "x" * 101,
        "unaffable " * 200,
        "a [SEP] b [MASK]c [cls] [PAD] [UNK]",
        "हिन्दी العربية ไทย עברית",
        "1,234.5e-6 http://a.b/c?d=e#f @me #tag",
    ],
)
def test_ids_on_odd_texts(text: str, wordpiece: WordPiece, tokenizer: Tokenizer) -> None:
    assert wordpiece.ids(text) == tokenizer.encode(text).ids


def test_ids_of_every_old_character(wordpiece: WordPiece, tokenizer: Tokenizer) -> None:
    """All characters of Unicode 3.2: classes of newer ones depend on each library's tables."""
    moved = {"\u166d", "\u1734", "\u1885", "\u1886"}  # Unicode put them into another class since
    characters = [
        c
        for c in map(chr, range(0x30000))
        if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs", "Co") and c not in moved
    ]
    # Thousands of ideographs and syllables are alike.
    characters = [c for c in characters if ord(c) < 0x3400 or ord(c) >= 0xFB00 or ord(c) % 97 == 0]
    texts = [f"a{c}b {c}" for c in characters]
    differs = [
        f"U+{ord(c):04X}"
        for c, text, encoding in zip(characters, texts, tokenizer.encode_batch(texts), strict=True)
        if wordpiece.ids(text) != encoding.ids
    ]
    assert len(characters) > 10_000
    assert differs == []


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        (("model", "type"), "BPE", "model is 'WordPiece', this one's is 'BPE'"),
        (("normalizer", "lowercase"), False, "lowercase is True"),
        (("normalizer", "strip_accents"), False, "strip_accents is True"),
        (("pre_tokenizer", "type"), "Whitespace", "pre_tokenizer is 'BertPreTokenizer'"),
        (("model", "max_input_chars_per_word"), 50, "max_input_chars_per_word is 100"),
        (("added_tokens",), [], "special tokens"),
    ],
)
def test_other_tokenizers_are_refused(
    keys: tuple[str, ...], value: object, complaint: str, folder: Path, tmp_path: Path
) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    part = tokenizer
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ToolkitError) as refusal:
        read_wordpiece_vocabulary(tmp_path)
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "ids",
    [
        {"[PAD]": 0, "a\n": 1},
        {"[PAD]": [0]},
        {"[PAD]": 0, "a": 2},
        {"[PAD]": 0, "a": "1"},
        {"[PAD]": 0, "a": None},
        [],
        {},
    ],
)
def test_broken_vocabularies_are_refused(ids: object, folder: Path, tmp_path: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"] = ids
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(DataError, match="vocabulary"):
        read_wordpiece_vocabulary(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json: there is no such file"):
        wordpiece_vocabulary(tmp_path)
