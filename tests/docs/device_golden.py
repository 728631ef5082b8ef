"""What docs/on-the-device.md and the XCTests of device_sim/swift are checked with.

`python tests/docs/device_golden.py` writes the page's table and the files beside the XCTests.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from night_by_hand import Candidate, Night, draw, log_probs, night

from personality_common.text.bert_folder import wordpiece_vocabulary
from personality_common.text.encoder import find_minilm
from personality_common.text.wordpiece import WordPiece

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "on-the-device.md"
RESOURCES = ROOT / "device_sim" / "swift" / "Tests" / "PersonalityDeviceTests" / "Resources"

TEXTS = (
    ("", "nothing between `[CLS]` and `[SEP]`"),
    ("Hello, World!", "lower case; punctuation stands alone"),
    ("unaffable", "the longest piece from the left; what follows has `##`"),
    ("don't a_b $5.00", "all ASCII signs are punctuation, `_` and `$` too"),
    ("Café ÅNGSTRÖM e\u0301", "accents (category Mn after NFD) are dropped, however they are written"),
    ("İstanbul", "NFD first, then lower case: the dot of İ is an accent"),
    ("ΟΔΟΣ", "lower case scalar by scalar: no final sigma"),
    ("Straße ẞ", "ß is a letter; no NFKC, no case folding"),
    ("今天好 日本語とEnglish", "CJK ideographs stand alone; kana and Latin letters form words"),
    ("한국어", "NFD takes Hangul apart; counted in scalars"),
    ("हिन्दी", "marks of category Mc stay, those of category Mn go"),
    ("a\u00a0b\tc\u200bd\u00ade", "Zs, tab and newline are spaces; Cc, Cf, Co and U+FFFD are dropped"),
    ("x\u2028y\u0085z", "U+2028 and U+2029 separate words; U+0085 is a control character and is dropped"),
    ("ok👍 👍", "a word with any part that is not in the vocabulary is `[UNK]` as a whole"),
    ("a [SEP] b[MASK]c [cls]", "special tokens that a text spells out count as such, in upper case only"),
    ("x" * 100, "100 scalars are still taken apart"),
    ("x" * 101, "a longer word is `[UNK]`"),
    ("na " * 300, "254 pieces, and `[CLS]` and `[SEP]`: what is beyond is cut off"),
)
"""Hard cases of the tokenizer, and the rule that each shows."""

HEADER = "| text | pieces between `[CLS]` and `[SEP]` | rule |\n|---|---|---|\n"


def vocabulary() -> list[str]:
    return wordpiece_vocabulary(find_minilm()[0]).decode().split("\n")[:-1]


def tokenizer_cases() -> list[dict[str, Any]]:
    """Text and tokens, `[CLS]` and `[SEP]` included."""
    tokens = vocabulary()
    wordpiece = WordPiece(tokens)
    return [{"text": text, "tokens": [tokens[i] for i in wordpiece.ids(text)]} for text, _ in TEXTS]


def tokenizer_table() -> str:
    """The page's table."""
    lines = []
    for case, (_, rule) in zip(tokenizer_cases(), TEXTS, strict=True):
        pieces = case["tokens"][1:-1]
        shown = " ".join(f"`{piece}`" for piece in pieces)
        if len(pieces) > 12:
            shown = (
                f"`{pieces[0]}` {'' if len(set(pieces)) == 1 else f'`{pieces[1]}` … '}({len(pieces)} in all)"
            )
        lines.append(f"| {_literal(case['text'])} | {shown} | {rule} |\n")
    return HEADER + "".join(lines)


def _literal(text: str) -> str:
    """A JSON string; repeated ones as `"x" * 100`, and what cannot be seen as an escape."""
    repeated = re.fullmatch(r"(.{1,3}?)\1{20,}", text)
    if repeated:
        return f'`"{repeated[1]}" * {len(text) // len(repeated[1])}`'
    seen = "".join(c if c.isprintable() and c != "\u0301" else f"\\u{ord(c):04x}" for c in text)
    return f'`"{seen}"`'


TOKENS, WIDTH, TEXT_COUNT, GROUP = 24, 6, 6, 4


def night_cases() -> list[dict[str, Any]]:
    """Two nights with all that happens between feedback and head, by hand; the second is scaled back."""
    rng = np.random.default_rng(5)
    shipped = _head(rng, 1.0)
    moved = (shipped[0] + _head(rng, 0.15)[0], shipped[1])
    return [_night_case(rng, shipped, shipped, 0.6), _night_case(rng, moved, shipped, 1.0)]


def _head(rng: np.random.Generator, scale: float) -> tuple[np.ndarray, np.ndarray]:
    weight = scale * rng.standard_normal((TOKENS, WIDTH)).round(2)
    return weight.astype(np.float32), (0.1 * rng.standard_normal(TOKENS)).round(2).astype(np.float32)


def _night_case(
    rng: np.random.Generator,
    head: tuple[np.ndarray, np.ndarray],
    shipped: tuple[np.ndarray, np.ndarray],
    norm: float,
) -> dict[str, Any]:
    latents = rng.standard_normal((TEXT_COUNT, WIDTH)).round(2).astype(np.float32)
    latents = (norm * latents / np.linalg.norm(latents, axis=1, keepdims=True)).astype(np.float32)
    logits = latents.astype(np.float64) @ head[0].T + head[1]
    uniform = rng.random((TEXT_COUNT, GROUP, TOKENS)).round(3)
    texts = []
    for n in range(TEXT_COUNT):
        row = []
        for g in range(GROUP):
            tokens = draw(logits[n], uniform[n, g])
            reward: float | None = round(float(rng.standard_normal()), 2)
            if n == 1:  # no spread
                reward = 0.5
            elif n in (2, 3, 4) and g != n - 2:  # one candidate heard
                reward = None
            logp = sum(log_probs(logits[n], tokens)) - 0.25 if (n, g) == (0, 1) else None
            row.append(Candidate(tokens, reward, logp))
        texts.append(row)
    found: Night = night(latents, texts, *head, *shipped)
    return {
        "latents": latents.tolist(),
        "weight": head[0].ravel().tolist(),
        "bias": head[1].tolist(),
        "shipped_weight": shipped[0].ravel().tolist(),
        "shipped_bias": shipped[1].tolist(),
        "uniform": uniform.tolist(),
        "texts": [[vars(c) for c in row] for row in texts],
        "logp": [[sum(log_probs(z, c.tokens)) for c in row] for z, row in zip(logits, texts, strict=True)],
        "advantages": found.advantages,
        "first_gradient": found.gradients[0].tolist(),
        "kl": found.kl,
        "coefficients": found.coefficients.tolist(),
        "whole": {"kl": found.whole[0], "overlap": found.whole[1]},
        "share": found.share,
        "new_weight": found.weight.ravel().tolist(),
        "new_bias": found.bias.tolist(),
    }


def dumped(value: Any) -> str:
    """JSON, lists of numbers on one line each."""

    def short(number: float) -> float:
        return float(f"{number:.9g}") if math.isfinite(number) else number

    def rounded(item: Any) -> Any:
        if isinstance(item, float):
            return short(item)
        if isinstance(item, list):
            return [rounded(x) for x in item]
        if isinstance(item, dict):
            return {k: rounded(v) for k, v in item.items()}
        return item

    text = json.dumps(rounded(value), indent=1)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text) + "\n"


def with_table(page: str) -> str:
    """The page with its table of the tokenizer made anew."""
    start = page.index(HEADER.split("\n")[0])
    end = page.index("\n\n", start)
    return page[:start] + tokenizer_table().rstrip("\n") + page[end:]


if __name__ == "__main__":
    RESOURCES.mkdir(parents=True, exist_ok=True)
    (RESOURCES / "wordpiece.json").write_text(json.dumps(tokenizer_cases(), indent=1) + "\n")
    (RESOURCES / "night.json").write_text(dumped(night_cases()))
    if PAGE.is_file():
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
