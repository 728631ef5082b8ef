"""What may be shown, and what becomes a mark."""

import unicodedata

import pytest

from personality_common.printable import printable


@pytest.mark.parametrize(
    "text", ["", "grüße, 世界\n\tשלום مرحبا 👩‍👩‍👧", "a\u00a0b\u200e\u200f", "\U0010ffff"]
)
def test_text_stays(text: str) -> None:
    assert printable(text) == text


def test_every_character_is_either_kept_or_marked() -> None:
    """Of all of Unicode: controls but tab and newline, surrogates, and bidirectional formatting go."""
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    everything = [chr(code) for code in range(0x110000)]
    expected = [
        "\ufffd"
        if (unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t")
        or unicodedata.bidirectional(c) in bidi
        or c in "\ufffe\uffff"
        else c
        for c in everything
    ]
    assert list(printable("".join(everything))) == expected
