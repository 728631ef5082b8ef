"""Axes whose ticks are true, infinity as infinity, and bars as high as what they count."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personality_common.page.histogram import histogram
from personality_common.page.html import Html
from personality_common.page.lines import Limit, Series, line_chart
from personality_common.page.scales import linear, logarithmic
from personality_common.page.tables import meter

FINITE = st.floats(-1e9, 1e9, allow_nan=False, width=32)


def parsed(chart: Html) -> ElementTree.Element:
    return ElementTree.fromstring(chart.markup.replace("&#x27;", "'"))


def named(root: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [e for e in root.iter() if kind in e.attrib.get("class", "").split()]


def texts(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    return {e.text or "": (float(e.attrib["x"]), float(e.attrib["y"])) for e in root.iter("text")
            if "x" in e.attrib}  # fmt: skip


@settings(deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=6))
def test_ticks_are_true_and_around_the_values(values: list[float]) -> None:
    scale = linear(values)
    ticks = scale.ticks
    names = [name for _, name in ticks]
    assert len(set(names)) == len(names), "no two ticks have one name"
    for value, name in ticks:
        assert float(name.replace(",", "")) == pytest.approx(value, rel=1e-5, abs=scale.step * 1e-6)
    assert scale.low <= min(values) + 1e-6 * scale.step
    assert scale.high >= max(values) - 1e-6 * scale.step
    places = [scale.at(value) for value, _ in ticks]
    assert all(0 <= a < b <= 1 for a, b in pairwise(places))


def test_a_quarter_is_called_a_quarter() -> None:
    assert [name for _, name in linear([0, 1]).ticks] == ["0.00", "0.25", "0.50", "0.75", "1.00"]
    assert [name for _, name in linear([0, 10]).ticks] == ["0.0", "2.5", "5.0", "7.5", "10.0"]
    assert [name for _, name in linear([0, 3], least_step=1).ticks] == ["0", "1", "2", "3"]


@settings(deadline=None)
@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_powers_of_ten(values: list[float], zero: bool, infinite: bool) -> None:
    scale = logarithmic([*values, *([0.0] if zero else []), *([math.inf] if infinite else [])])
    names = [name for _, name in scale.ticks]
    assert (names[0] == "0", names[-1] == "∞") == (zero, infinite)
    digits = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    for value, name in scale.ticks[zero : len(names) - infinite]:
        assert 10.0 ** int(name.removeprefix("10").translate(digits)) == pytest.approx(value)
    order = sorted([*values, *([0.0] if zero else []), *([math.inf] if infinite else [])])
    places = [scale.at(value) for value in order]
    assert places == sorted(places)
    if zero:
        assert places[0] < places[1]
    if infinite:
        assert places[-1] > places[-2]


def test_a_line_goes_through_its_values() -> None:
    values = [0.0, 0.25, math.nan, 1.0, 0.5]
    root = parsed(
        line_chart("t", [Series("s", values)], [Limit("budget", 0.5)], x="night", y="nats per decision")
    )
    at = texts(root)
    assert {"nats per decision", "night", "start", "4", "budget 0.5"} <= set(at)
    dots = [(float(e.attrib["cx"]), float(e.attrib["cy"])) for e in root.iter("circle")]
    assert len(dots) == 4
    # The tick's text is 4 units below its line.
    bottom, top = at["0.00"][1] - 4, at["1.00"][1] - 4
    for (_, y), value in zip(dots, (0.0, 0.25, 1.0, 0.5), strict=True):
        assert y == pytest.approx(bottom + value * (top - bottom), abs=0.11)
    assert [x for x, _ in dots] == pytest.approx([at[n][0] for n in ("start", "1", "3", "4")], abs=0.11)
    lines = [e.attrib["points"].split() for e in root.iter("polyline")]
    assert [len(points) for points in lines] == [2, 2], "a gap where nothing is known"
    (limit,) = [e for e in root.iter("line") if e.attrib["class"] == "limit"]
    assert float(limit.attrib["y1"]) == pytest.approx((bottom + top) / 2, abs=0.11)


@pytest.mark.parametrize("log", [False, True])
def test_infinity_is_drawn_as_infinity(log: bool) -> None:
    values = [1e-7, math.inf, 1e-3, 0.0]
    root = parsed(line_chart("t", [Series("s", values)], x="op", y="error", log=log))
    at = texts(root)
    dots = [float(e.attrib["cy"]) for e in root.iter("circle")]
    assert dots[1] == pytest.approx(at["∞"][1] - 4, abs=0.11)
    assert dots[1] < min(dots[0], dots[2]) - 8, "above all that is finite"
    tips = [e.findtext("title") for e in root.iter("circle")]
    assert tips[1] == "s, op 1: ∞"
    if log:
        assert dots[3] == pytest.approx(at["0"][1] - 4, abs=0.11)
        assert dots[3] > dots[0] + 8


def test_minus_infinity_and_no_value_at_all() -> None:
    root = parsed(line_chart("t", [Series("s", [-math.inf, 1.0])], x="night", y="reward"))
    assert float(next(root.iter("circle")).attrib["cy"]) == pytest.approx(texts(root)["-∞"][1] - 4, abs=0.11)
    for values in ([math.nan], [math.inf, math.nan], [5.0], [-1e30, 1e30]):
        parsed(line_chart("t", [Series("s", values)], x="night", y="reward"))
        parsed(line_chart("t", [Series("s", [abs(v) for v in values])], x="op", y="error", log=True))


def test_tick_names_are_inside_of_the_picture() -> None:
    """A character is 9 units at most, in the letters of a phone."""
    for values in ([0.0, 1e6], [-123456.0, 5.0], [0.001, 0.002], [1e12, 2e12]):
        for entry in parsed(line_chart("t", [Series("s", values)], x="night", y="n")).iter("text"):
            if entry.attrib.get("text-anchor") == "end" and "class" not in entry.attrib:
                assert float(entry.attrib["x"]) - 9 * len(entry.text or "") >= 0


def test_series_differ_by_more_than_colour() -> None:
    root = parsed(line_chart("t", [Series("a", [0, 1]), Series("b", [1, 0], first=1)], x="night", y="n"))
    dashes = [e.attrib["stroke-dasharray"] for e in root.iter("polyline")]
    assert len(set(dashes)) == 2
    assert (len(list(root.iter("circle"))), len(list(root.iter("path")))) == (2, 2)


def test_bars_are_as_high_as_their_counts() -> None:
    root = parsed(histogram("t", [-1.0, -0.5, 0.0, 0.5, 1.0], [2, 0, 4, 1], x="gain", unit="devices"))
    at = texts(root)
    assert {"gain", "devices"} <= set(at)
    bars = named(root, "column")
    heights = [float(e.attrib["height"]) for e in bars]
    unit = (at["0"][1] - at["4"][1]) / 4
    assert heights == pytest.approx([2 * unit, 4 * unit, unit], abs=0.11)
    assert [("under" in e.attrib["class"]) for e in bars] == [True, False, False]
    assert float(bars[1].attrib["x"]) == pytest.approx(at["0.0"][0], abs=0.11)
    assert bars[0].findtext("title") == "-1 to -0.5: 2 devices, 28.6%"


def test_a_logarithmic_histogram_has_a_place_for_zero() -> None:
    edges = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    root = parsed(
        histogram("t", edges, [1, 0, 0, 3], x="d", unit="values", zero=5, limit=Limit("limit", 1e-2))
    )
    at = texts(root)
    bars = named(root, "column")
    zero = next(e for e in bars if (e.findtext("title") or "").startswith("exactly 0: 5 values"))
    left, width = float(zero.attrib["x"]), float(zero.attrib["width"])
    assert left < at["0"][0] < left + width
    assert left + width < at["10⁻⁴"][0]
    tips = [e.findtext("title") or "" for e in bars]
    assert any(tip.startswith("up to 0.001: 1 ") for tip in tips)
    assert any(tip.startswith("from 0.1 on: 3 ") for tip in tips)
    (line,) = [e for e in root.iter("line") if e.attrib["class"] == "limit"]
    assert float(line.attrib["x1"]) == pytest.approx(at["10⁻²"][0], abs=0.11)
    for value, arrow in ((1e-9, "← limit 1e-09"), (10.0, "limit 10 →")):
        far = parsed(
            histogram("t", edges, [1, 0, 0, 3], x="d", unit="v", zero=0, limit=Limit("limit", value))
        )
        assert arrow in texts(far)
        assert not [e for e in far.iter("line") if e.attrib["class"] == "limit"], "no line where it is not"


@pytest.mark.parametrize(
    ("value", "width", "kind"),
    [
        (0.0, 0, "used"), (1e-10, 0, "used"), (1e-4, 70, "used"), (1e-7, 35, "used"), (1.0, 70, "over"),
        (math.nan, 70, "over"), (math.inf, 70, "over"),
    ],
)  # fmt: skip
def test_a_meter_is_full_at_its_limit(value: float, width: float, kind: str) -> None:
    (bar,) = [
        e for e in parsed(meter(value, 1e-4, value <= 1e-4)).iter("rect") if e.attrib["class"] != "rail"
    ]
    assert (float(bar.attrib["width"]), bar.attrib["class"]) == (pytest.approx(width), kind)


def test_a_title_names_a_chart_for_those_who_do_not_see_it() -> None:
    chart = line_chart('a "b" <c>', [Series("s", [1, 2])], x="night", y="n").markup
    assert re.search(r'role="img" aria-label="a &quot;b&quot; &lt;c&gt;"', chart)


def test_a_row_within_its_limit_is_not_red() -> None:
    """Its greatest difference may be beyond it: where magnitudes are extreme a scaled one is judged."""
    (bar,) = [e for e in parsed(meter(3e-4, 1e-4, True)).iter("rect") if e.attrib["class"] != "rail"]
    assert (bar.attrib["width"], bar.attrib["class"]) == ("70", "used")
