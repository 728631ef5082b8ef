import math
import random

import pytest

from pretrain.data.split import is_validation


def test_the_hash_is_sha256_of_the_text() -> None:
    # printf 'Hello' | sha256sum begins 185f8db32271fe25, printf 'Hi!' | sha256sum ca51ce1fb15acc6d.
    hello, hi = 0x185F8DB32271FE25 / 2**64, 0xCA51CE1FB15ACC6D / 2**64
    for text, place in (("Hello", hello), ("Hi!", hi)):
        assert is_validation(text, place + 1e-9)
        assert not is_validation(text, place - 1e-9)


def test_the_share_is_binomial() -> None:
    n, fraction = 20_000, 0.05
    held_out = sum(is_validation(f"text number {i}", fraction) for i in range(n))
    # Five standard deviations: a fair hash fails this once in two million.
    assert abs(held_out - n * fraction) < 5 * math.sqrt(n * fraction * (1 - fraction))


def test_order_and_growth_change_nothing_and_larger_fractions_contain_smaller_ones() -> None:
    texts = [f"text {i}" for i in range(2000)]
    small = {text for text in texts if is_validation(text, 0.05)}
    shuffled = random.Random(0).sample([*texts, *(f"new {i}" for i in range(500))], 2500)
    assert {text for text in shuffled if is_validation(text, 0.05) and text.startswith("text")} == small
    assert small < {text for text in texts if is_validation(text, 0.2)}


def test_limits() -> None:
    assert not is_validation("anything", 0)
    assert is_validation("anything", 1)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        is_validation("anything", 1.5)
