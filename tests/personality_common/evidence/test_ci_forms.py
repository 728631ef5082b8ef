"""JUnit XML and GitHub's annotations, against what their readers take."""

import re
from xml.etree import ElementTree

import pytest

from personality_common.evidence.claims import Check, claim, within
from personality_common.evidence.github import github_annotations
from personality_common.evidence.junit import junit
from personality_common.evidence.provenance import Provenance

EVIL = '50% of a,b: \r\n::add-mask::x\x1b[31m\x00 \u202egnp.exe <b a="\'">&amp;]]> \ud800'
CHECKS = (
    claim("files", "files are whole", True),
    within("logits", "logits", 2e-6, "<=", 1e-4, "row 3", package="M.mlpackage", runtimes="mil / torch"),
    within("logits", "logits", 2.0, "<=", 1e-4, EVIL, package="H.mlpackage", runtimes="mil / torch"),
    claim("order", f"order {EVIL}", False, "swapped"),
    Check("reward", "reward rose", "not judged", "nobody to ask"),
)

# After jenkinsci/xunit-plugin's junit-10.xsd and Surefire's surefire-test-report.xsd: element -> required
# attributes, further ones, children in any order.
SCHEMA = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors", "disabled"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time"},
        {"timestamp", "hostname", "id", "package", "group", "disabled"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": (
        {"name", "time", "classname"}, {"group", "status", "assertions"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type"}, {"message"}, set()),
    "skipped": (set(), {"message", "type"}, set()),
    "system-out": (set(), set(), set()),
}  # fmt: skip


@pytest.fixture
def suites(made: Provenance) -> ElementTree.Element:
    return ElementTree.fromstring(junit("parity", CHECKS, made))


def test_has_the_form_of_the_schemas(suites: ElementTree.Element) -> None:
    for element in suites.iter():
        required, optional, children = SCHEMA[element.tag]
        assert required <= set(element.attrib) <= required | optional, element.tag
        assert {child.tag for child in element} <= children
    (suite,) = suites
    # xs:dateTime without an offset, as Surefire writes it.
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    for case in suite.iter("testcase"):
        assert len(case) <= 1


def test_counts_and_cases(suites: ElementTree.Element) -> None:
    (suite,) = suites
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 5, "failures": 2, "errors": 0, "skipped": 1}
    assert {name: suites.attrib[name] for name in ("tests", "failures", "errors")} == {
        "tests": "5", "failures": "2", "errors": "0",
    }  # fmt: skip
    cases = suite.findall("testcase")
    assert [case.attrib["classname"] for case in cases] == [
        "parity", "parity.M", "parity.H", "parity", "parity",
    ]  # fmt: skip
    assert cases[1].attrib["name"] == "mil / torch: logits"
    assert cases[1].findtext("system-out") == "2.0e-06 ≤ 0.0001\nrow 3"
    failure = cases[2].find("failure")
    assert failure is not None
    assert failure.attrib == {"type": "logits", "message": "2, must be ≤ 0.0001"}
    assert (failure.text or "").startswith("2, must be ≤ 0.0001\n50% of a,b: ")
    assert cases[4].find("skipped") is not None
    properties = {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}
    assert properties["command"] == "pt parity '<b>'"
    assert properties["torch"] == "2.13.0"


def test_nothing_that_xml_refuses(made: Provenance) -> None:
    text = junit("parity", CHECKS, made).decode()
    # XML 1.0, production 2.
    assert re.fullmatch(r"[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*", text)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x7f-\x9f]", text)


def unescape(text: str) -> str:
    """As the runner does it: ActionCommand.cs, %25 last."""
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def test_annotations_are_a_line_for_each_failure() -> None:
    lines = list(github_annotations("parity", CHECKS))
    assert len(lines) == 2
    for line in lines:
        # One command a line, and one property: nothing from outside ends either.
        assert re.fullmatch(r"::error title=[^:,\r\n]*::[^\r\n]*", line)
        assert not re.search("[\x00-\x1f\u202a-\u202e\ud800-\udfff]", line)
    title, _, message = lines[0].removeprefix("::error title=").partition("::")
    assert unescape(title) == "pt parity: H mil / torch: logits"
    assert unescape(message).startswith("2, must be ≤ 0.0001; 50% of a,b: \ufffd\n::add-mask::x\ufffd[31m")
