"""Tags: taken out wherever they stand, left alone where they are something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sim.companion.privacy.tags import TAGS, take_tags


@pytest.mark.parametrize(
    ("text", "kept", "tags"),
    [
        ("#no-train hello", "hello", "no-train"),
        ("hello #no-memory", "hello", "no-memory"),
        ("a #OFF-Record b", "a b", "off-record"),
        ("one\n#no-train\ntwo", "one\n\ntwo", "no-train"),
        ("one  #no-train\n  two", "one\n  two", "no-train"),
        ("(#no-train)", "()", "no-train"),
        ("done.#no-train", "done.#no-train", ""),
        ("done. #no-train.", "done. .", "no-train"),
        ("#no-train#no-memory x", "x", "no-memory no-train"),
        ("#no-train #no-memory #off-record", "", "no-memory no-train off-record"),
        ("x #no‑train y", "x y", "no-train"),
        ("#no-training", "#no-training", ""),
        ("#off-recording is no tag", "#off-recording is no tag", ""),
        ("#no-train-now", "#no-train-now", ""),
        ("##no-train", "##no-train", ""),
        ("word#no-train", "word#no-train", ""),
        ("https://x.example/#no-train", "https://x.example/#no-train", ""),
        ("https://x.example/?q=(#no-train)", "https://x.example/?q=(#no-train)", ""),
        ("`#no-train`", "`#no-train`", ""),
        ("```\nx = 1  #no-train\n```", "```\nx = 1  #no-train\n```", ""),
        ("`open #no-train", "`open", "no-train"),
        ("```\nopen #off-record", "```\nopen", "off-record"),
        ("no tag, issue #12", "no tag, issue #12", ""),
        ("😀 #no-train 😀", "😀 😀", "no-train"),
        ("", "", ""),
    ],
)
def test_tags(text: str, kept: str, tags: str) -> None:
    assert take_tags(text) == (kept, frozenset(tags.split()))


_PIECES = st.sampled_from(
    ["#no-train", "#", "no-train", "#off-record", "`", "```", " ", "\n", "http://x/", "é", "-"]
)


@given(st.lists(_PIECES, max_size=14).map("".join))
def test_taking_twice_finds_nothing(text: str) -> None:
    kept, tags = take_tags(text)
    assert take_tags(kept) == (kept, frozenset())
    assert tags <= TAGS
    if not tags:
        assert kept == text
    bare = kept.replace(" ", "").replace("#", "").replace("no-train", "").replace("off-record", "")
    assert bare == text.replace(" ", "").replace("#", "").replace("no-train", "").replace("off-record", "")
