"""The vocabulary file: what is accepted, what is refused and how the refusal reads."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from dataclasses import FrozenInstanceError
from itertools import combinations
from pathlib import Path

import pytest

from personality_common.errors import DataError, MismatchError
from personality_common.printable import printable
from personality_common.vocabulary import (
    DEFAULT_TOKENS_PATH,
    Vocabulary,
    load_vocabulary,
    require_same_vocabulary,
)

WORDS = [f"word {i}" for i in range(325)]


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def refusal(path: Path) -> str:
    """The message with which the file is refused: one line that begins with the file's name."""
    with pytest.raises(DataError) as caught:
        load_vocabulary(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


def test_default_has_325_lower_case_words_in_a_stable_file_form() -> None:
    tokens = load_vocabulary().tokens
    assert len(tokens) == 325
    assert [t for t in tokens if not t.replace("-", "").isalpha() or t != t.lower()] == []
    # One token a line, sorted: a change of the vocabulary reads as a diff of words.
    lines = DEFAULT_TOKENS_PATH.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["{", '  "tokens": [']
    assert [line.strip(' ",') for line in lines[2:-2]] == sorted(tokens)


# Longest first. Not "less": hopeless is the opposite of hopeful, not a form of it.
ENDINGS = (
    *("fulness", "iveness", "ically", "ating", "ative", "ional", "iness", "ious", "eous", "able", "ible"),
    *("ness", "ful", "ous", "ive", "ing", "ish", "ate", "ity", "ent", "ant", "ism", "ist"),
    *("al", "ic", "ed", "en", "er", "ly", "y", "e", "d", "s"),
)


def stem(word: str) -> str:
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def test_stem_sees_inflections() -> None:
    assert stem("boastful") == stem("boasting") == "boast"
    assert stem("talkative") == stem("talky") == "talk"


def test_default_has_no_near_duplicates() -> None:
    tokens = load_vocabulary().tokens
    by_stem = Counter(stem(t) for t in tokens)
    assert {s for s, count in by_stem.items() if count > 1} == set()
    contained = [(a, b) for a, b in combinations(tokens, 2) if a in b.split("-") or b in a.split("-")]
    # The only one: a manner of its own, and no kind of the other.
    assert contained == [("aggressive", "passive-aggressive")]
    negated = [t for t in tokens if any(p + t in tokens for p in ("un", "in", "im", "ir", "dis"))]
    # Few, and both worth telling apart; "intense" does not negate "tense".
    assert negated == ["decisive", "patient", "reverent", "tense"]


def test_fingerprint_is_the_sha256_of_the_documented_bytes() -> None:
    expected = hashlib.sha256(b'["calm","self pitying","na\xc3\xafve","so-called \\"wit\\""]').hexdigest()
    assert Vocabulary(("calm", "self pitying", "naïve", 'so-called "wit"')).fingerprint == expected


def test_fingerprint_depends_on_order_and_on_boundaries() -> None:
    prints = {
        Vocabulary(tokens).fingerprint
        for tokens in [("a", "b"), ("b", "a"), ("ab",), ("a b",), ("a", "b", ""), ()]
    }
    assert len(prints) == 6


def test_lookup() -> None:
    vocabulary = Vocabulary(("calm", "self pitying", "warm"))
    assert [vocabulary.index(t) for t in ("warm", "calm", "self pitying")] == [2, 0, 1]
    assert dict(vocabulary.positions) == {"calm": 0, "self pitying": 1, "warm": 2}
    assert vocabulary.joined() == "calm,self pitying,warm"
    with pytest.raises(DataError, match=r"one of the vocabulary's 3, got 'cold'"):
        vocabulary.index("cold")
    with pytest.raises(FrozenInstanceError):
        vocabulary.tokens = ()  # type: ignore[misc]


def test_order_of_the_file_is_kept(tokens_file: Path) -> None:
    assert load_vocabulary(write(tokens_file, {"tokens": WORDS[::-1]})).tokens == tuple(WORDS[::-1])


def test_other_keys_and_a_byte_order_mark_change_nothing(tokens_file: Path) -> None:
    plain = load_vocabulary(write(tokens_file, {"tokens": WORDS}))
    tokens_file.write_text(json.dumps({"version": 3, "tokens": WORDS}), encoding="utf-8-sig")
    assert load_vocabulary(tokens_file).fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("", "tokens[7]: a token must not be empty, got ''"),
        ("  ", "tokens[7]: a token must not be empty, got '  '"),
        (" kind", "tokens[7]: a token must have no space around it, got ' kind'"),
        ("kind\n", r"tokens[7]: a token must have no space around it, got 'kind\n'"),
        ("\u00a0kind", r"tokens[7]: a token must have no space around it, got '\xa0kind'"),
        (
            "kind, warm",
            "tokens[7]: a token must have no comma (tokens are comma-joined in Core ML metadata),"
            " got 'kind, warm'",
        ),
        ("ki\nnd", r"tokens[7]: a token must have no control character (U+000A), got 'ki\nnd'"),
        ("ki\u2028nd", r"tokens[7]: a token must have no control character (U+2028), got 'ki\u2028nd'"),
        ("ki\ud800nd", r"tokens[7]: a token must have no control character (U+D800), got 'ki\ud800nd'"),
        (3, "tokens[7]: a token must be a string, got 3"),
        (None, "tokens[7]: a token must be a string, got None"),
        (["kind"], "tokens[7]: a token must be a string, got a list of 1"),
        ("word 3", "tokens must be distinct, tokens[3] and tokens[7] are both 'word 3'"),
    ],
)
def test_bad_entry(tokens_file: Path, entry: object, expected: str) -> None:
    tokens: list[object] = list(WORDS)
    tokens[7] = entry
    assert refusal(write(tokens_file, {"tokens": tokens})) == expected


@pytest.mark.parametrize(
    ("token", "why"),
    [
        *(
            (f"ki{c}nd", "no character that cannot be seen")
            for c in "\u00ad\u200b\u200d\u2060\u2062\ufeff\u115f\u3164"
        ),
        *(
            (f"ki{c}nd", "no character that cannot be seen")
            for c in "\u202e\u2067\u200f\u061c\ufe0f\U000e0041\u2800"
        ),
        ("k\u2003ind", "no character that cannot be seen"),
        ("\ue000", "no character that cannot be seen"),
        ("kіnd", "one script, has CYRILLIC and LATIN ones"),
        ("wοrd", "one script, has GREEK and LATIN ones"),
        ("ｗｏｒｄ ３", r"tokens[3] and tokens[7] look alike"),
    ],
)
def test_what_cannot_be_told_by_eye_is_refused(tokens_file: Path, token: str, why: str) -> None:
    tokens = [*WORDS[:7], token, *WORDS[8:]]
    message = refusal(write(tokens_file, {"tokens": tokens}))
    assert why in message
    assert printable(message) == message


def test_whole_words_that_look_alike_are_refused(tokens_file: Path) -> None:
    message = refusal(write(tokens_file, {"tokens": ["cope", "соре", *WORDS[2:]]}))
    assert message == "tokens must be distinct, tokens[0] and tokens[1] look alike, and are both like 'соре'"
    persian = "می\u200cخواهم"
    message = refusal(write(tokens_file, {"tokens": [persian, persian.replace("\u200c", ""), *WORDS[2:]]}))
    assert "look alike" in message


@pytest.mark.parametrize(
    "token",
    [
        "naïve",
        "любопытный",
        "περίεργος",
        "می\u200cخواهم",
        "क्\u200dष",
        "好奇心が強い A型",
        "👩\u200d🚀",
        "❤\ufe0f",
        "m/s²",
    ],
)
def test_words_of_any_language_are_tokens(tokens_file: Path, token: str) -> None:
    write(tokens_file, {"tokens": [token, *WORDS[1:]]})
    assert load_vocabulary(tokens_file).tokens[0] == token


def test_a_long_value_is_cut_in_the_message(tokens_file: Path) -> None:
    message = refusal(write(tokens_file, {"tokens": ["x" * 5000 + ","]}))
    assert len(message) < 200


def test_equal_after_unicode_normalization_is_a_duplicate(tokens_file: Path) -> None:
    composed, decomposed = "na\u00efve", "nai\u0308ve"
    assert unicodedata.normalize("NFC", decomposed) == composed
    message = refusal(write(tokens_file, {"tokens": [composed, *WORDS[:323], decomposed]}))
    assert message.startswith("tokens must be distinct, tokens[0] and tokens[324] are both ")


@pytest.mark.parametrize("count", [0, 324, 326])
def test_wrong_count(tokens_file: Path, count: int) -> None:
    message = refusal(write(tokens_file, {"tokens": [f"w{i}" for i in range(count)]}))
    assert message == f'"tokens" must have 325 entries, one for each output, got {count}'


@pytest.mark.parametrize("document", [WORDS, {"token": WORDS}, {"tokens": {"0": "kind"}}, "kind", None, 3])
def test_wrong_shape(tokens_file: Path, document: object) -> None:
    assert refusal(write(tokens_file, document)).startswith('must be {"tokens": [...]}, got ')


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "must be JSON, line 1 column 1: Expecting value"),
        (b'{"tokens": [\n  "kind"\n  "warm"]}', "must be JSON, line 3 column 3: Expecting ',' delimiter"),
        (b'{"tokens": ["na\xefve"]}', "must be UTF-8, got byte 0xef at offset 15"),
        (b'{"tokens": [], "tokens": []}', "must be plain JSON: a key is given twice: 'tokens'"),
        (b"[" * 200_000, "must be plain JSON: "),
        (b"[" + b"1" * 5000 + b"]", "must be plain JSON: "),
        (b" " * (1 << 20) + b"{}", "a vocabulary file must not exceed 1048576 bytes"),
    ],
    ids=["empty", "syntax", "latin-1", "key twice", "deep", "huge number", "too large"],
)
def test_unreadable_file(tokens_file: Path, raw: bytes, expected: str) -> None:
    tokens_file.write_bytes(raw)
    assert refusal(tokens_file).startswith(expected)


def test_a_missing_file_is_an_oserror_that_names_it(tokens_file: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokens\.json"):
        load_vocabulary(tokens_file)


def test_different_vocabularies_refuse_to_mix() -> None:
    one, other = Vocabulary(("calm", "warm")), Vocabulary(("warm", "calm"))
    require_same_vocabulary(one.fingerprint, Vocabulary(("calm", "warm")).fingerprint, "RUN")
    with pytest.raises(MismatchError) as caught:
        require_same_vocabulary(one.fingerprint, other.fingerprint, "runs/a/run.json")
    message = str(caught.value)
    assert message.startswith("runs/a/run.json: ")
    assert one.fingerprint[:12] in message
    assert other.fingerprint[:12] in message
