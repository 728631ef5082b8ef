"""What a night needs of the machine, and who is told when one fails."""

import sys
from pathlib import Path

import pytest

from device_sim.night.machine import failure_command, require_room, tell
from personality_common.errors import ConfigError, ToolkitError
from personality_common.terminal.progress import SILENT


def test_a_full_disk_and_a_low_battery_are_refused(tmp_path: Path) -> None:
    require_room(tmp_path, 0, tmp_path)
    with pytest.raises(ToolkitError, match="GB of the disk free"):
        require_room(tmp_path, 1e5, tmp_path)
    battery = tmp_path / "BAT0"
    battery.mkdir()
    (battery / "status").write_text("Discharging\n")
    (battery / "capacity").write_text("29\n")
    with pytest.raises(ToolkitError, match="BAT0 has 29%"):
        require_room(tmp_path, 0, tmp_path)
    (battery / "status").write_text("Charging\n")
    require_room(tmp_path, 0, tmp_path)


def test_a_message_is_one_word_and_no_shell_s(tmp_path: Path) -> None:
    out = tmp_path / "told"
    script = f"import sys; open({str(out)!r}, 'w').write('|'.join(sys.argv[1:]))"
    words = failure_command(f'"{sys.executable}" -c "{script}" "to me"')
    tell(words, "it failed; touch $HOME `id`", SILENT)
    assert out.read_text() == "to me|it failed; touch $HOME `id`"


def test_a_command_that_is_not_there_fails_no_night() -> None:
    tell(["/no/such/command"], "it failed", SILENT)


@pytest.mark.parametrize("command", ["", "  ", 'say "'])
def test_no_command(command: str) -> None:
    with pytest.raises(ConfigError, match="--on-failure"):
        failure_command(command)
