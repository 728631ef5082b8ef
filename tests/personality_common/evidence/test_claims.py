"""When a check passes, how its figure reads, and what of it goes into JSON."""

import json
import math

import pytest

from personality_common.evidence.claims import (
    Check,
    apart,
    claim,
    number,
    passed,
    share,
    to_json,
    within,
)


@pytest.mark.parametrize(
    ("measured", "bound", "limit", "status"),
    [
        (1e-4, "<=", 1e-4, "passed"),
        (1.1e-4, "<=", 1e-4, "failed"),
        (0.999, ">=", 0.999, "passed"),
        (0.99, ">=", 0.999, "failed"),
        (0.0, ">", 0.0, "failed"),
        (1e-300, ">", 0.0, "passed"),
        (math.nan, "<=", 1.0, "failed"),
        (math.nan, ">=", 1.0, "failed"),
        (math.inf, "<=", 1.0, "failed"),
        (None, "<=", 1.0, "failed"),
    ],
)
def test_a_figure_decides(measured: float | None, bound: str, limit: float, status: str) -> None:
    assert within("a", "b", measured, bound, limit).status == status  # type: ignore[arg-type]


def test_what_is_not_judged_fails_nothing() -> None:
    unknown = Check("c", "c", "not judged")
    assert passed([claim("a", "a", True), unknown])
    assert not passed([claim("a", "a", True), unknown, claim("b", "b", False)])
    assert (unknown.passed, unknown.failed) == (False, False)


@pytest.mark.parametrize(
    ("check", "figure", "must", "against"),
    [
        (within("a", "a", 2.4e-6, "<=", 1e-4), "2.4e-06", "≤ 0.0001", "2.4e-06 ≤ 0.0001"),
        (within("a", "a", 0.3, "<=", 1e-4), "0.3", "≤ 0.0001", "0.3, must be ≤ 0.0001"),
        (within("a", "a", 0, "<=", 0, unit="bytes"), "", "", ""),
        (within("a", "a", 3, "<=", 0, unit="bytes"), "3 bytes", "≤ 0", "3 bytes, must be ≤ 0"),
        (within("a", "a", 0, ">", 0, unit="numbers"), "0 numbers", "> 0", "0 numbers, must be > 0"),
        (within("a", "a", None, ">=", 0.999), "–", "≥ 0.999", "–, must be ≥ 0.999"),
        (claim("a", "a", True), "", "", ""),
    ],
)
def test_words(check: Check, figure: str, must: str, against: str) -> None:
    assert (check.figure, check.must, check.against) == (figure, must, against)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0, "0"), (166725, "166,725"), (0.25, "0.25"), (0.023027, "0.02303"),
        (0.9999966, "0.999997"), (0.99999999, "1"), (1e-7, "1.0e-07"), (151.2345, "151.2"),
        (math.inf, "∞"), (-math.inf, "-∞"), (math.nan, "NaN"), (-2.5, "-2.5"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


def test_json_is_plain() -> None:
    checks = [within("a", "b", math.nan, "<=", 0.5, "c", package="P.mlpackage", runtimes="mil / torch")]
    document = to_json(checks)
    assert json.loads(json.dumps(document, allow_nan=False)) == {
        "passed": False,
        "checks": [
            {
                "id": "a", "name": "b", "status": "failed", "detail": "c", "measured": None, "bound": "<=",
                "limit": 0.5, "unit": "", "package": "P.mlpackage", "runtimes": "mil / torch",
            }
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("measured", "limit", "figure", "must"),
    [
        (0.00010000001, 1e-4, "0.00010000001", "≤ 0.0001"),
        (1.00004, 1.0, "1.00004", "≤ 1"),
        (2.4e-6, 1e-4, "2.4e-06", "≤ 0.0001"),
        (166725.0, 0, "166,725", "≤ 0"),
        (math.nan, 1e-4, "NaN", "≤ 0.0001"),
        (math.inf, 1e-4, "∞", "≤ 0.0001"),
    ],
)
def test_figures_that_differ_are_printed_so_that_they_differ(
    measured: float, limit: float, figure: str, must: str
) -> None:
    check = within("a", "b", measured, "<=", limit)
    assert (check.figure, check.must) == (figure, must)


def test_a_share_is_told_from_one() -> None:
    assert [share(value) for value in (1.0, 0.5, 0.9999999, None)] == ["1.00000", "0.50000", "0.9999999", "-"]
    assert [share(value) for value in (1 - 2**-45, 1 + 2**-52, 1 - 2**-52)] == [
        "1-3e-14",
        "1.00000",
        "1.00000",
    ]
    assert apart(0.71234567, 0.71234599) == ("0.7123457", "0.712346")
    assert apart(0.5, 0.5) == ("0.5", "0.5")
    assert apart(None, 0.5) == ("–", "0.5")
