"""Two plans are one, or the difference is named."""

from pathlib import Path
from typing import Any

import pytest

from personality_common.errors import MismatchError
from personality_common.runs.plan import require_same_plan

OURS: dict[str, Any] = {"seed": 3, "threads": 2, "nights": {"count": 7, "weights": (1.0, 2.0)}}


def differs(theirs: dict[str, Any], ours: dict[str, Any] = OURS) -> dict[str, Any]:
    return require_same_plan(theirs, ours, Path("there"), "take another", {"threads"})


def test_what_json_gives_back_is_the_same() -> None:
    assert differs({"nights": {"weights": [1.0, 2.0], "count": 7}, "seed": 3, "threads": 2}) == {}


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ({"seed": 4}, "seed is 4 there, 3 here"),
        ({"nights": {"count": 8, "weights": [1.0, 2.0]}}, "nights.count is 8 there, 7 here"),
        ({"more": None}, "more is None there, absent here"),
        ({"nights": None}, r"nights is None there, absent here; nights.count is absent there, 7 here; .*"),
        ({"seed": "9" * 10_000}, f"seed is '{'9' * 79} there, 3 here"),
    ],
    ids=["other", "inner", "only-there", "only-here", "long"],
)
def test_what_differs_is_said(theirs: dict[str, Any], said: str) -> None:
    message = rf"^there: must be of the same plan: {said}; take another$"
    with pytest.raises(MismatchError, match=message):
        differs(OURS | {"nights": {"count": 7, "weights": [1.0, 2.0]}} | theirs)


def test_what_may_differ_is_told() -> None:
    plain = OURS | {"nights": {"count": 7, "weights": [1.0, 2.0]}}
    assert differs(plain | {"threads": 1}) == {"threads": 2}
    del plain["threads"]
    assert differs(plain) == {"threads": 2}
