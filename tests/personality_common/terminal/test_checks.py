"""The table of a verdict at several widths."""

from io import StringIO

import pytest
from rich.console import Console

from personality_common.evidence.claims import Check, claim, within
from personality_common.terminal.checks import ChecksTable
from personality_common.terminal.provenance import this_command

LONG = "encoder.0.ffn_in.weight has another fingerprint: 1,048,576 bytes at its place are others; " * 3
CHECKS = (
    claim("files", "files have the sizes and SHA-256 of the manifest", False, LONG),
    within(
        "logits.max-abs", "logits: max |difference|", 0.25, "<=", 1e-4, "row 3 [bold]x[/] \x1b[31mred\u202e",
        package="PersonalityModelUpdatable.mlpackage", runtimes="torch / golden",
    ),
    within("head-changed", "head changed", 166725, ">", 0, "of 166,725", unit="numbers"),
    Check("reward-rose", "reward on held-out texts rose", "not judged", "nobody to ask"),
)  # fmt: skip


def shown(width: int) -> str:
    file = StringIO()
    Console(file=file, width=width).print(ChecksTable(CHECKS))
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 119, 120, 200])
def test_nothing_is_cut_off(width: int) -> None:
    text = shown(width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    for status in ("✗ failed", "✓ passed", "– not judged"):
        assert status in text
    for figure in ("0.25", "≤ 0.0001", "166,725 numbers", "> 0"):
        assert figure in text
    words = text.split()
    for word in (LONG + " torch / golden: PersonalityModelUpdatable nobody to ask").split():
        assert word in words, word


def test_figures_are_a_column_where_there_is_room() -> None:
    rows = [line for line in shown(160).splitlines() if "≤" in line or "> 0" in line]
    assert len({line.index("≤") if "≤" in line else line.index("> 0") for line in rows}) == 1


@pytest.mark.parametrize("width", [80, 200])
def test_a_detail_moves_no_cursor_and_has_no_markup(width: int) -> None:
    text = shown(width)
    assert "[bold]x[/]" in text
    assert "\ufffd[31mred\ufffd" in text
    assert "\x1b" not in text


def test_a_command_knows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/pt", "parity", "a folder", "--samples", "3"])
    found = this_command()
    assert found.command == "pt parity 'a folder' --samples 3"
    assert found.date.endswith("+00:00")
    assert {"python", "torch", "personality-toolkit"} <= set(found.versions)
