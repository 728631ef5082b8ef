"""Mixes of users, and who gets which."""

from collections import Counter

import pytest

from device_sim.fleet.mix import Kind, assign, parse_mix
from personality_common.errors import ToolkitError


def test_weights_become_shares() -> None:
    assert parse_mix("profile") == (Kind("profile", 1.0),)
    found = parse_mix("6*profile + 3*thumbs:answers=0.3,noise=1e+0+1*random")
    assert [kind.user for kind in found] == ["profile", "thumbs:answers=0.3,noise=1e+0", "random"]
    assert [kind.share for kind in found] == pytest.approx([0.6, 0.3, 0.1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0*profile+1*random", "weights positive, got '0\\*profile'"),
        ("some*profile", "weights positive"),
        ("-1*profile", "weights positive"),
        ("nan*profile", "weights positive"),
        ("profile+1*random", "got 'profile'"),
        ("1*profile+1*nobody", "got 'nobody'"),
        ("1*profile+2*profile", "each user once, got profile twice"),
        ("1*thumbs:mood=2", "parameters of a user"),
        ("", "a simulated user must be|a user must be"),
    ],
)
def test_what_is_no_mix(text: str, message: str) -> None:
    with pytest.raises(ToolkitError, match=message):
        parse_mix(text)


def test_shares_are_kept_to_the_device() -> None:
    kinds = parse_mix("0.5*profile+0.25*thumbs+0.25*random")
    for devices, counts in ((100, [50, 25, 25]), (10, [5, 3, 2]), (1, [1]), (3, [1, 1, 1])):
        found = Counter(assign(kinds, devices, 0))
        assert sum(found.values()) == devices
        assert sorted(found.values(), reverse=True) == sorted(counts, reverse=True)
    order = assign(kinds, 100, 0)
    assert order == assign(kinds, 100, 0)
    assert order != assign(kinds, 100, 1)
    # In a drawn order: the first quarter is not all of one kind.
    assert len(set(order[:25])) == 3
