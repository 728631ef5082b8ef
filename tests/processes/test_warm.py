"""A forked process does what one does that Python starts anew."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm

PROGRAM = """
import os, sys
print(__name__, sys.argv[1:], os.environ["GIVEN"], "HOME" in os.environ, os.getcwd(), sys.stdin.read())
print("aside", file=sys.stderr)
{end}
"""


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "sys.exit('words')", "sys.exit(None)", "1 / 0", "os._exit(7)"]
)
def test_it_ends_as_a_new_one_does(tmp_path: Path, end: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(end=end))
    command = [str(program), "a", "b c"]
    environment = {"GIVEN": "x", "PATH": os.environ["PATH"]}
    theirs = subprocess.run(
        [sys.executable, *command], input="ü\n", capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    ours = warm.run(command, input="ü\n", cwd=tmp_path, env=environment)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    # A traceback has the frames of what forked in front.
    assert ours.stderr.splitlines()[0] == "aside"
    assert ours.stderr.splitlines()[-1] == theirs.stderr.splitlines()[-1]


def test_it_is_a_process_that_signals_reach(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"import time; open({str(tmp_path / 'here')!r}, 'w'); time.sleep(60)")
    process = warm.Warm([program])
    while not (tmp_path / "here").exists():
        assert process.poll() is None
        time.sleep(0.01)
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
