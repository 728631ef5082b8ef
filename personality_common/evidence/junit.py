"""Checks as JUnit XML, which Jenkins, GitLab and GitHub's actions read."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from personality_common.evidence.claims import Check
from personality_common.evidence.provenance import Provenance
from personality_common.printable import printable


def junit(suite: str, checks: Sequence[Check], made: Provenance) -> bytes:
    """One suite with a test case per check, whose figures are in its `system-out`; no check has a time.

    Args:
        suite: the command: `parity`, `simulate`, …

    Source: jenkinsci/xunit-plugin, junit-10.xsd; Maven Surefire, surefire-test-report.xsd.
    """
    counts = {
        "tests": len(checks),
        "failures": sum(check.failed for check in checks),
        "errors": 0,
        "skipped": sum(check.status == "not judged" for check in checks),
    }
    total = {name: str(count) for name, count in counts.items()} | {"time": "0"}
    # The schema has room for neither an offset nor a Z.
    stamp = {"timestamp": made.date.partition("+")[0].rstrip("Z")}
    root = ElementTree.Element("testsuites", {"name": suite})
    root.attrib |= {name: value for name, value in total.items() if name != "skipped"}
    element = ElementTree.SubElement(root, "testsuite", {"name": suite} | total | stamp)
    properties = ElementTree.SubElement(element, "properties")
    for name, value in {"command": made.command, "machine": made.machine, **made.versions}.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": printable(value)})
    for check in checks:
        _case(element, suite, check)
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True)) + b"\n"


def _case(parent: ElementTree.Element, suite: str, check: Check) -> None:
    package = check.package.removesuffix(".mlpackage")
    name = f"{check.runtimes}: {check.name}" if check.runtimes else check.name
    place = {"classname": ".".join(filter(None, (suite, package))), "name": name, "time": "0"}
    case = ElementTree.SubElement(parent, "testcase", {k: printable(v) for k, v in place.items()})
    said = "\n".join(filter(None, (check.against, check.detail)))
    if check.failed:
        first = (check.against or check.detail).partition("\n")[0]
        words = {"type": printable(check.id), "message": printable(first)}
        ElementTree.SubElement(case, "failure", words).text = printable(said)
    elif check.status == "not judged":
        ElementTree.SubElement(case, "skipped", {"message": printable(check.detail)})
    elif said:
        ElementTree.SubElement(case, "system-out").text = printable(said)
