"""The files of a verdict, and GitHub's annotations."""

import json
import stat
from pathlib import Path

import pytest

from personality_common.evidence.claims import claim
from personality_common.evidence.provenance import Provenance
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
    files = ReportFiles(tmp_path / "a" / "r.html", tmp_path / "r.json", tmp_path / "r.xml")
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
