"""Killed at any moment, the store has the old or the new active head, never neither."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from device_sim.heads.store import HeadStore

# Each change runs in a child that ends, as by SIGKILL, at the k-th thing that it asks of the system.
STEP_BY_STEP = """
import os, shutil, sys
from pathlib import Path
import torch
from device_sim.heads.store import HeadStore
from device_sim.heads.record import HeadRecord, Gate
from grpo.head import Head

torch.set_num_threads(1)
path, change = Path(sys.argv[1]), sys.argv[2]
copy = path.with_name("copy")

def act(store):
    versions = [line.version for line in store.versions()]
    if change == "activate":
        store.activate(versions[-1])
    elif change == "rollback":
        store.rollback()
    elif change == "prune":
        store.prune(1)
    else:
        old = store.show(versions[-1]).record
        head = store.load(versions[-1])
        store.add(Head(head.weight + 1, head.bias), old)

for k in range(10_000):
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    child = os.fork()
    if not child:
        store, seen = HeadStore(copy), 0
        def hook(event, arguments):
            global seen
            if event.split(".")[0] in ("open", "os", "fcntl", "shutil", "tempfile"):
                if seen == k:
                    os._exit(9)
                seen += 1
        seen = -10**9
        sys.addaudithook(hook)
        seen = 0
        act(store)
        seen = -10**9
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    store = HeadStore(copy)
    for line in store.versions():
        assert line.damage is None, line.damage
        store.load(line.version)
    print(code, store.active, len(store.versions()), flush=True)
    act(store)
    for line in store.versions():
        store.load(line.version)
    left = [p.name for p in (copy / "versions").iterdir() if p.name.startswith(".")]
    assert not left, left
    if code == 0:
        break
"""

ENDLESS = """
import sys
from pathlib import Path
from device_sim.heads.store import HeadStore

store = HeadStore(Path(sys.argv[1]))
first, second = (line.version for line in store.versions()[-2:])
print("go", flush=True)
while True:
    store.activate(second)
    store.activate(first)
    store.rollback()
    store.rollback()
"""


@pytest.fixture
def ready(grown):
    """Active is the last but two; the last two are to be activated."""
    store, versions = grown
    store.rollback()
    store.rollback()
    return store, versions


@pytest.mark.parametrize("change", ["activate", "rollback", "prune", "add"])
def test_kill_at_every_step_of_a_change(ready, change):
    store, versions = ready
    found = subprocess.run(
        [sys.executable, "-c", STEP_BY_STEP, store.path, change], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    lines = [line.split() for line in found.stdout.splitlines()]
    codes = [code for code, _, _ in lines]
    assert codes == ["9"] * (len(codes) - 1) + ["0"]
    assert len(codes) > 10
    new = {"activate": versions[-1], "rollback": versions[2]}.get(change, versions[3])
    active = [version for _, version, _ in lines]
    # The old one for some steps, then the new one for the rest: there is one step that changes it.
    turn = active.index(new)
    assert active == [versions[3]] * turn + [new] * (len(active) - turn)
    if change in ("activate", "rollback"):
        assert 0 < turn < len(active) - 1
    counts = [int(count) for _, _, count in lines]
    assert sorted(counts, reverse=change == "prune") == counts
    assert counts[-1] - counts[0] == {"add": 1, "prune": -2}.get(change, 0)


def test_sigkill_while_activating_in_a_loop(ready):
    store, versions = ready
    draw = random.Random(0)
    seen = set()
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", ENDLESS, store.path], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"go\n"
            for _ in range(20):
                # Readers see a whole store while it changes.
                active = HeadStore(store.path).active
                assert active in versions
                store.load(active)
                seen.add(active)
            time.sleep(draw.uniform(0, 0.05))
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert store.active in versions
        assert store.load(store.active)
        assert all(line.damage is None for line in store.versions())
        store.activate(versions[3])
    assert len(seen) > 1
