"""Nothing from outside becomes markup, and the frame lets nothing in."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personality_common.evidence.claims import Check, claim, within
from personality_common.evidence.provenance import Provenance
from personality_common.page import page as kit
from personality_common.page.histogram import histogram
from personality_common.page.html import join, tag
from personality_common.page.lines import Limit, Series, line_chart
from personality_common.page.tables import Column, facts, table, verdict

ROOT = Path(__file__).parents[3]
EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</title></style></svg><iframe>",
    "]]>--><!--",
    "&lt;b&gt; &#60;b&#62;",
    "\u202egnp.exe\u202c \u2066x\u2069",
    "\x00\x1b[31m\ud800",
)


class Seen(HTMLParser):
    """What a browser would make of it: elements in order, attributes, text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.odd: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(name)
        self.attributes += attributes

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.odd.append(data)

    def unknown_decl(self, data: str) -> None:
        self.odd.append(data)


@pytest.mark.parametrize("text", EVIL)
def test_text_stays_text(text: str) -> None:
    seen = Seen(tag("p", text, [text, tag("b", text)], class_=text, title=text).markup)
    assert seen.elements == ["p", "b"]
    assert [name for name, _ in seen.attributes] == ["class", "title"]
    assert not seen.odd
    shown = re.sub("[\x00\x1b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "\ufffd", text)
    assert "".join(seen.text) == shown * 3
    assert {value for _, value in seen.attributes} == {shown}


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=40))
def test_any_text(text: str) -> None:
    seen = Seen(tag("td", text, title=text).markup)
    assert (seen.elements, len(seen.attributes), seen.odd) == (["td"], 1, [])
    tag("td", text).markup.encode()


def test_a_piece_of_html_in_a_string_is_text() -> None:
    """Whoever puts an element into an f-string gets it shown, not run."""
    element = tag("b", "x")
    assert Seen(tag("p", f"{element}").markup).elements == ["p"]
    assert Seen(tag("p", join("a", element, 1, None)).markup).elements == ["p", "b"]


@pytest.mark.parametrize("name", ["script", "style", "iframe", "img", "a", "form", "object", "p onclick", ""])
def test_elements_that_load_or_run_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="an element must be one of"):
        tag(name)


@pytest.mark.parametrize("name", ["onclick", "style", "href", "src", "xlink:href", 'x="" onload'])
def test_attributes_that_load_or_run_are_refused(name: str) -> None:
    attributes: dict[str, Any] = {name: "x"}
    with pytest.raises(ValueError, match="an attribute must be one of"):
        tag("p", **attributes)


def test_coordinates_are_finite() -> None:
    assert tag("rect", x=1.25, y=3, width="50%").markup == '<rect x="1.2" y="3" width="50%"></rect>'
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be finite"):
            tag("rect", x=value)


def everything(text: str, made: Provenance) -> str:
    """A page with the text in every place that takes one."""
    made = Provenance(made.date, text, text, {text: text})
    checks = [
        Check("a", text, "not judged", text, package=text, runtimes=text),
        claim("b", text, False, text),
        within("c", text, 0.5, "<=", 0.1, text, unit=text),
    ]
    series = [Series(text, [1.0, 2.0], tips=[text, text])]
    return kit.page(
        text,
        kit.heading(text, text, passed=False),
        kit.card(text, verdict(checks), facts([(text, text)]), table([Column(text)], [("", [text])])),
        kit.card(text, line_chart(text, series, [Limit(text, 1.5)], x=text, y=text, names=[text, text])),
        kit.card(text, histogram(text, [-1, 0, 1], [1, 2], x=text, unit=text, limit=Limit(text, 0.5))),
        kit.note(text), kit.example(text, (text, [kit.chip(text, "won")]), detail=text),
        made=made, notes=text,
    )  # fmt: skip


def test_a_table_wider_than_its_card_is_scrolled_there() -> None:
    """At 800 pixels ten columns stood out of the card, and the whole page was pushed aside with them."""
    html = table([Column("name")] * 10, [("", ["a"] * 10)]).markup
    assert re.fullmatch(r'<div class="scroll"><table class="rows">.*</table></div>', html, re.DOTALL)
    style = Path(kit.__file__).with_name("style.css").read_text(encoding="utf-8")
    assert re.search(r"^\.scroll \{[^}]*overflow-x: auto", style, re.MULTILINE)


@pytest.mark.parametrize("text", EVIL)
def test_a_hostile_string_in_every_place(text: str, made: Provenance) -> None:
    plain, seen = Seen(everything("x", made)), Seen(everything(text, made))
    assert seen.elements == plain.elements
    assert [name for name, _ in seen.attributes] == [name for name, _ in plain.attributes]
    assert not seen.odd
    everything(text, made).encode()
    assert not re.search("[\x00\x1b\u202a-\u202e\u2066-\u2069]", everything(text, made))


def test_the_policy_allows_this_style_and_nothing_else(made: Provenance) -> None:
    page = kit.page("t", kit.heading("t"), made=made)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    rules = {words[0]: words[1:] for words in (rule.split() for rule in policy.split(";"))}
    assert rules == {
        "default-src": ["'none'"], "style-src": [f"'sha256-{digest}'"], "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }  # fmt: skip
    assert "unsafe" not in policy
    assert not re.search(r"url\(|@import|expression", style)


def test_a_page_says_what_it_is_made_of(made: Provenance) -> None:
    text = "".join(Seen(kit.page("t", made=made)).text)
    for part in ("2026-01-02 03:04:05 UTC", "Linux, 2 cores", "torch 2.13.0", "pt parity '<b>'"):
        assert part in text


def test_one_place_makes_markup_one_has_the_policy_and_one_a_style_sheet() -> None:
    packages = ("personality_common", "pretrain", "grpo", "device_sim")
    code = {p: p.read_text() for package in packages for p in (ROOT / package).rglob("*.py")}
    page = ROOT / "personality_common" / "page"
    makers = [p for p, text in code.items() if re.search(r"(?<!\w)Html\(", text)]
    assert makers == [page / "html.py"]
    assert [p for p, text in code.items() if "content-security-policy" in text.lower()] == [page / "page.py"]
    markup = re.compile("<(style|svg|table|td|div|html)")
    assert [p for p, text in code.items() if markup.search(text)] == [page / "page.py"]
    sheets = [p for package in packages for p in (ROOT / package).rglob("*.css")]
    # What a chat and a companion have that no report has stands on top of it.
    more = ["device_sim/companion/serving/page.css", "personality_common/endpoint/chat.css"]
    assert sorted(sheets) == [*(ROOT / name for name in more), page / "style.css"]
