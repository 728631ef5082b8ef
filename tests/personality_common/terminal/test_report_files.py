"""The files of a verdict, and GitHub's annotations."""

import json
import stat
from pathlib import Path

import pytest

from personality_common.evidence.claims import claim
from personality_common.evidence.provenance import Provenance
from personality_common.terminal.json_output import JsonPlace
from personality_common.terminal.report_files import ReportFiles

CHECKS = (
    claim("files", "files are the manifest's", False, "one byte differs"),
    claim("order", "order", True),
)


def test_only_what_is_asked_for_is_written(
    tmp_path: Path, made: Provenance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    ReportFiles().write("parity", CHECKS, made, {"schema": 1}, b"<!doctype html>")
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())
    files = ReportFiles(tmp_path / "a" / "r.html", JsonPlace(tmp_path / "r.json"), tmp_path / "r.xml")
    files.write("parity", CHECKS, made, {"schema": 1}, b"<!doctype html>")
    assert capsys.readouterr().out == ""
    assert (tmp_path / "a" / "r.html").read_bytes() == b"<!doctype html>"
    assert stat.S_IMODE((tmp_path / "a" / "r.html").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "r.json").read_text()) == {"schema": 1}
    assert (tmp_path / "r.xml").read_bytes().startswith(b"<?xml version='1.0' encoding='utf-8'?>")


def test_github_gets_a_line_for_what_failed(
    made: Provenance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ReportFiles().write("parity", CHECKS, made, {}, b"")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("::error ")
    assert "one byte differs" in line


def test_the_summary_of_a_step_is_added_to_and_is_text(
    made: Provenance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    evil = claim("e", "a | b <img src=x> [l](http://x)", False, "line\nbreak `code`")
    taken = ReportFiles(json=JsonPlace(None)).write("parity", (*CHECKS, evil), made, {"schema": 1}, b"")
    assert taken
    assert json.loads(capsys.readouterr().out) == {"schema": 1}
    lines = summary.read_text().splitlines()
    assert lines[:2] == ["before", "### pt parity: 2 of 3 checks failed"]
    rows = [line for line in lines if line.startswith("| ") and "---" not in line]
    assert [row.replace(r"\|", "").count("|") for row in rows] == [5] * 4
    assert rows[3] == (r"| ❌ | a \| b &lt;img src=x&gt; \[l\]\(http://x\) |  | line break \`code\` |")
    assert "2026-01-02" in lines[-2]
