"""`torchrun -m pretrain`: many processes do what one does, and a killed one costs nothing but time.

With MiniLM torchrun starts its processes; else they are forked (tests/processes/torchrun.py).
"""

import contextlib
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import warm
from safetensors.numpy import load_file

from personality_common.cli import main
from pretrain.data.keys import KEY_BYTES

FIXTURE = Path(__file__).parents[3] / "fixtures" / "conversations.jsonl"
PATIENCE = 300
TEXTS = 1_100
"""Ten shards, so that there is time between the second and the last."""
WEIGHTS = ("personality_model_weights.safetensors", "embedding_projector_weights.safetensors")


PROGRAM = (str(Path(__file__).parents[2] / "faults" / "hash_encoder.py"), "pretrain")
"""What `-m pretrain` starts, with an encoder that needs no libraries."""


TORCHRUN = ("-m", "torch.distributed.run")
FORKING = (str(Path(__file__).parents[2] / "processes" / "torchrun.py"),)
ALONE = ("--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file", "--local-addr", "127.0.0.1")
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""As docs/pretrain.md has it: for one machine, reached by no other."""


def command(
    processes: int,
    data: Path,
    run: Path,
    *more: str,
    restarts: int = 0,
    program: Sequence[str] = PROGRAM,
    launcher: Sequence[str] = FORKING,
) -> list[str]:
    launcher = [*launcher, *ALONE, "--nproc-per-node", str(processes)]
    options = ["--data", str(data), "--output-dir", str(run), "--device", "cpu", "--json", *more]
    return [*launcher, "--max-restarts", str(restarts), *program, *options]


def start(arguments: list[str]) -> warm.Warm:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **OWN_STORE}
    return warm.Warm(arguments, env=environment)


def finish(process: warm.Warm) -> tuple[dict[str, object], str]:
    said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    # Nobody but the leader prints: there is one JSON object, and each message once.
    result: dict[str, object] = json.loads(said)
    assert errors.count("read ") == errors.count("encoder: ")
    return result, errors


def weights(run: Path) -> dict[str, np.ndarray]:
    return {f"{file}/{name}": t for file in WEIGHTS for name, t in load_file(run / file).items()}


def keys_in_cache(run: Path) -> Counter[bytes]:
    """Counted in the files themselves: how often each text was embedded for good."""
    found: Counter[bytes] = Counter()
    for path in run.glob("cache/*/shard-*.npy"):
        keys = np.load(path)["key"]
        found.update(bytes(key).ljust(KEY_BYTES, b"\0") for key in keys.tolist())
    return found


@pytest.fixture(scope="module")
def many_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "many.jsonl"
    path.write_text("".join(json.dumps({"text": f"text number {i} of them"}) + "\n" for i in range(TEXTS)))
    return path


def test_the_number_of_processes_changes_nothing_but_rounding(tmp_path: Path) -> None:
    data = tmp_path / "some.jsonl"
    data.write_text("".join(FIXTURE.read_text().splitlines(keepends=True)[:100]))
    # bfloat16 rounds gradients differently in batches of another size: 1.1e-6 was measured, 2.1e-5 where AMX
    # multiplies it. Gradients that are not scaled by the number of processes make it 1.3e-4. Batches of 16 do
    # not divide by 3.
    options = ["--epochs", "1", "--dropout", "0", "--lr", "1e-4", "--batch-size", "16"]
    options += [
        "--max-samples",
        "300",
        "--keep",
        "last",
    ]  # of 304; so short a run may end worse than it began
    results = {}
    for size in (1, 3):
        real = command(
            size, data, tmp_path / str(size), *options, program=("-m", "pretrain"), launcher=TORCHRUN
        )
        results[size], said = finish(start(real))
        assert "stopped reading at --max-samples 300" in said
    alone = weights(tmp_path / "1")
    ours = weights(tmp_path / "3")
    assert ours.keys() == alone.keys()
    assert max(float(np.abs(ours[name] - alone[name]).max()) for name in alone) < 5e-5
    info = json.loads((tmp_path / "3" / "run.json").read_text())
    assert info["plan"]["processes"] == 3
    assert results[3]["embedded"] == results[1]["embedded"]
    assert set(keys_in_cache(tmp_path / "3").values()) == {1}
    moved = alone[f"{WEIGHTS[0]}/encoder.0.ffn_out.weight"]  # zero at the start
    assert np.abs(moved).max() > 1e-4


def child(launcher: int, rank: int) -> int | None:
    """The process of a rank, found in /proc."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "comm").read_text() == f"rank {rank}\n":
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == launcher:
                    return int(entry.name)
        except (OSError, UnicodeDecodeError):
            continue
    return None


LINUX = Path("/proc/net/tcp").exists()


def tree(root: int) -> set[int]:
    """A process and all below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    found = {root}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(processes: set[int]) -> set[str]:
    """Addresses, as /proc/net/tcp has them, at which any of some processes listens."""
    open_files = set()
    for process in processes:
        with contextlib.suppress(OSError):
            open_files |= {str(file.readlink()) for file in Path(f"/proc/{process}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in open_files:
                found.add(fields[1].split(":")[0])
    return found


@pytest.fixture(scope="module")
def undisturbed(many_texts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A run, and the addresses at which any of its processes listened."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    job = start(command(2, many_texts, run, "--epochs", "3"))
    seen = set()
    while job.poll() is None:
        if LINUX:
            seen |= listening(tree(job.pid))
        time.sleep(0.02)
    finish(job)
    return run, seen


@pytest.mark.skipif(not LINUX, reason="finds sockets in /proc")
def test_one_machine_s_job_listens_to_no_other(undisturbed: tuple[Path, set[str]]) -> None:
    assert undisturbed[1] == {"0100007F"}  # 127.0.0.1, and not 00000000


@pytest.mark.skipif(not LINUX, reason="finds the processes in /proc")
@pytest.mark.parametrize(
    ("moment", "rank", "resumes"),
    [
        pytest.param(lambda run: len(list(run.glob("cache/*/shard-*.npy"))) >= 3, 1, False, id="embedding"),
        pytest.param(
            lambda run: list(run.glob("in-progress/checkpoints/epoch_1_*[0-9].safetensors")),
            0,
            True,
            id="training",
        ),
    ],
)
def test_a_killed_process_is_started_again_and_nothing_is_lost(
    many_texts: Path,
    undisturbed: tuple[Path, set[str]],
    tmp_path: Path,
    moment: Callable[[Path], object],
    rank: int,
    resumes: bool,
) -> None:
    run = tmp_path / "run"
    job = start(command(2, many_texts, run, "--epochs", "3", restarts=1))
    deadline = time.monotonic() + PATIENCE
    while not moment(run):
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    before = set(run.glob("cache/*/shard-*.npy"))
    victim = child(job.pid, rank)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    _, errors = finish(job)
    assert errors.count(f"read {TEXTS} records") == 2  # it was started again
    assert bool(re.search("resuming after epoch [12] of 3", errors)) == resumes
    counted = keys_in_cache(run)
    assert counted == keys_in_cache(undisturbed[0])
    assert set(counted.values()) == {1}
    assert before <= set(run.glob("cache/*/shard-*.npy"))
    for name, expected in weights(undisturbed[0]).items():
        assert np.array_equal(weights(run)[name], expected)


def test_what_one_process_fails_with_is_said_once(tmp_path: Path) -> None:
    data = tmp_path / "bad.jsonl"
    # Line 3 is read by process 1 of 2.
    data.write_text('{"text": "a"}\n{"text": "b"}\n{"text": 3}\n{"text": "c"}\n')
    job = start(command(2, data, tmp_path / "run", program=("-m", "pretrain"), launcher=TORCHRUN))
    _, errors = job.communicate(timeout=PATIENCE)
    assert job.returncode == 1
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert f"process 1 of 2: {data}:3: text must be a string" in lines[0]


def test_the_leader_is_given_the_time_to_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("personality_common.cli.time.sleep", waits.append)
    kept = signal.getsignal(signal.SIGTERM)
    wrong = ["pretrain", "--data", "none.jsonl", "--output-dir", "run", "--epochs", "0"]
    for rank, expected in (("0", 0), ("1", 1)):
        monkeypatch.setenv("RANK", rank)
        waits.clear()
        try:
            with pytest.raises(SystemExit):
                main(wrong)
        finally:
            signal.signal(signal.SIGTERM, kept)
        assert len(waits) == expected
