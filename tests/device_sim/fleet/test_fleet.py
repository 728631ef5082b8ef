"""`pt fleet` with real workers and the bundle's own encoder, beside `pt simulate`."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import forked_workers
import jsonschema
import numpy as np
import pytest
import torch
import warm

from device_sim.simulate.texts import Embedder, Encode
from personality_common.cli import main

TEXTS = Path(__file__).parents[3] / "fixtures" / "conversations.jsonl"
MIX = ("--user", "1*profile+1*thumbs:answers=0.4")
SPEND = ("--nights", 2, "--interactions", 10, "--group", 4, "--seed", 3, "--gate", "none")
ROOT = Path(__file__).parents[3]
FORKING = (forked_workers.__file__,)
LINUX = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds workers in /proc")


@pytest.fixture(scope="module")
def bundle(minilm_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the text encoder; beside it, in few.jsonl, so few texts that they are embedded in seconds."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "few.jsonl").write_text("".join(TEXTS.read_text().splitlines(keepends=True)[:50]))
    shutil.copytree(minilm_bundle, folder / "bundle", copy_function=os.link)
    return folder / "bundle"


def pt(*arguments: object) -> list[str]:
    return [*warm.PT, *map(str, arguments)]


def fleet(bundle: Path, out: Path, *more: object, program: Sequence[str] = FORKING) -> list[str]:
    """Its workers are forked, which saves them the import of torch; `warm.PT` starts them as `pt` does."""
    data = bundle.parent / "few.jsonl"
    return [*program, *map(str, ("fleet", bundle, "--data", data, "--out", out, *SPEND, *more))]


def run(command: list[str], threads: int = 1) -> subprocess.CompletedProcess[str]:
    return warm.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": str(threads)})


def devices_of(out: Path) -> list[dict[str, Any]]:
    return [
        d for file in sorted((out / "chunks").glob("*.json")) for d in json.loads(file.read_text())["devices"]
    ]


@pytest.fixture(scope="module")
def finished(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fleet") / "out"
    command = fleet(bundle, out, "--devices", 70, *MIX, "--workers", 2, program=warm.PT)
    done = run([*command, "--junit", str(out.with_suffix(".xml"))])
    # The exit code is the verdict, which so short lives may fail.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "lived again alone: devices 0, " in done.stdout
    assert "living 140/140" in done.stderr
    return out


def test_a_device_has_the_head_that_pt_simulate_gives_it(
    bundle: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real command, the package patched and read back every night; on two threads, and on one.

    The second phone is told the embeddings that the first has made.
    """
    devices = devices_of(finished)
    assert [d["device"] for d in devices] == list(range(70))
    remember_embeddings(monkeypatch)
    for kind, user in enumerate(("profile", "thumbs:answers=0.4")):
        one = next(d for d in devices[20:] if d["kind"] == kind)
        figures = tmp_path / f"{kind}.json"
        data = bundle.parent / "few.jsonl"
        words = ("simulate", bundle, "--data", data, "--user", user, *SPEND, "--seed", one["seed"])
        # The exit code is the verdict, which so short a life may fail.
        with on_threads(2 - kind), pytest.raises(SystemExit):
            main([*map(str, words), "--json", str(figures)])
        simulated = json.loads(figures.read_text())
        assert one["seed"] == 3 + one["device"]
        assert simulated["heads"]["last"] == one["head"] != simulated["heads"]["shipped"]
        assert simulated["nights"][-1]["held_out"]["rise"] == pytest.approx(one["gain"], abs=1e-5)
        assert simulated["nights"][-1]["drift"]["overlap"] == pytest.approx(one["overlap"])


@contextmanager
def on_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


def remember_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the bundle's own encoder, which takes each text alone."""
    known: dict[str, tuple[Any, Any]] = {}
    packaged = Embedder._packaged

    def remembering(self: Embedder) -> Encode:
        encode = packaged(self)

        def encode_new(texts: Sequence[str]) -> tuple[Any, Any]:
            for text in texts:
                if text not in known:
                    known[text] = encode([text])
            return tuple(np.concatenate([known[t][i] for t in texts]) for i in (0, 1))  # type: ignore[return-value]

        return encode_new

    monkeypatch.setattr(Embedder, "_packaged", remembering)


def test_figures_and_report(finished: Path) -> None:
    document = json.loads((finished / "fleet.json").read_text())
    schema = json.loads((ROOT / "device_sim" / "fleet" / "fleet.schema.json").read_text())
    jsonschema.validate(document, schema)
    first, *rest = document["checks"]
    assert (first["id"], first["status"]) == ("heads-identical", "passed")
    assert [c["id"] for c in rest] == [f"{id}.{k}" for k in (0, 1) for id in ("gain", "worse", "budgets")]
    assert [c["status"] for c in rest if c["id"].startswith("budgets")] == ["passed"] * 2
    assert [(g["name"], g["devices"]) for g in document["groups"]] == [
        ("all", 70), ("profile", 35), ("thumbs:answers=0.4", 35),
    ]  # fmt: skip
    devices = devices_of(finished)
    everyone = document["groups"][0]
    assert everyone["gain"] == pytest.approx(sum(d["gain"] for d in devices) / 70)
    assert sum(everyone["histogram"]) == 70
    worst = min(devices, key=lambda d: d["gain"])
    assert [d["device"] for d in document["worst"]] == [worst["device"]]
    assert f"--seed {worst['seed']}" in document["worst"][0]["command"]
    page = (finished / "report.html").read_text()
    assert "70 devices, 2 nights" in page
    assert "://" not in page
    assert not list(finished.rglob("*.tmp"))
    (suite,) = ElementTree.parse(finished.with_suffix(".xml")).getroot()
    failures = str(sum(c["status"] == "failed" for c in document["checks"]))
    assert (suite.attrib["name"], suite.attrib["tests"], suite.attrib["failures"]) == ("fleet", "7", failures)


def test_a_finished_fleet_says_so_and_another_is_refused(bundle: Path, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "chunks").iterdir()}
    again = run(fleet(bundle, finished, "--devices", 70, *MIX, "--workers", 1))
    assert again.returncode in (0, 1), again.stderr
    assert "every device had lived before; nothing was left to do" in again.stdout
    other = run(fleet(bundle, finished, "--devices", 71, *MIX))
    assert other.returncode == 3
    assert "devices is 70 there, 71 here" in other.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (finished / "chunks").iterdir()}


def test_a_head_that_is_not_pt_simulate_s_fails_the_fleet(
    bundle: Path, finished: Path, tmp_path: Path
) -> None:
    spoilt = Path(shutil.copytree(finished, tmp_path / "spoilt"))
    file = spoilt / "chunks" / "00000.json"
    document = json.loads(file.read_text())
    head = document["devices"][0]["head"]
    document["devices"][0]["head"] = ("1" if head[0] == "0" else "0") + head[1:]
    file.write_text(json.dumps(document))
    done = run(fleet(bundle, spoilt, "--devices", 70, *MIX))
    assert done.returncode == 3
    assert "error: device 0 must have the head that pt simulate gives it" in done.stderr


@contextmanager
def claimed(out: Path, chunks: range) -> Iterator[None]:
    """Chunks that no worker can take meanwhile: a fleet cannot finish."""
    with (out / ".claims").open("a+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, len(chunks), chunks.start)
        yield


def workers_of(out: Path) -> list[int]:
    """Processes whose stdout is the fleet's log."""
    found = []
    for stdout in Path("/proc").glob("[0-9]*/fd/1"):
        with suppress(OSError):
            if stdout.readlink() == out / "workers.log":
                found.append(int(stdout.parts[2]))
    return found


def listening(process: int) -> list[str]:
    """Addresses, in hex, at which a process listens."""
    mine = set()
    for fd in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # a file that was closed meanwhile
            mine.add(str(fd.readlink()))
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    return [words[1] for words in lines if words[3] == "0A" and f"socket:[{words[9]}]" in mine]


def wait_for(what: Callable[[], Any], process: warm.Warm | None = None) -> Any:
    deadline = time.monotonic() + 120
    while not (found := what()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def chunks_of(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((out / "chunks").glob("*.json"))}


def begin(command: list[str]) -> warm.Warm:
    return warm.Warm(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})


@LINUX
def test_a_killed_worker_and_ctrl_c_lose_nothing_that_was_finished(
    bundle: Path, finished: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out", ignore=shutil.ignore_patterns("chunks")))
    command = fleet(bundle, out, "--devices", 70, *MIX, "--workers", 2)
    first = {"00000.json": chunks_of(finished)["00000.json"]}
    with claimed(out, range(1, 2)):
        process = begin(command)
        wait_for(lambda: chunks_of(out), process)
        os.kill(workers_of(out)[0], signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 4, said
    assert chunks_of(out) == first
    assert "error: all devices must live to the end, and a worker failed" in said
    assert "missing: devices 64-69; the same command goes on with them" in said
    assert len(said.rstrip().splitlines()[-1]) < 400
    assert not workers_of(out)

    # The same command goes on, and is interrupted.
    with claimed(out, range(1, 2)):
        process = begin(command)
        wait_for(lambda: len(workers_of(out)) == 2, process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    # One that was being started just then notices within a second that nobody waits for it.
    wait_for(lambda: not workers_of(out))
    assert chunks_of(out) == first

    # As if nothing had happened, and by one worker.
    done = run([*command[:-1], "1"])
    assert done.returncode in (0, 1), done.stderr
    assert chunks_of(out) == chunks_of(finished)


@LINUX
@pytest.mark.parametrize(
    ("number", "code", "last"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up"), (signal.SIGKILL, -9, None)],
    ids=["TERM", "HUP", "KILL"],
)
def test_workers_end_with_the_command_and_nobody_listens(
    bundle: Path, finished: Path, tmp_path: Path, number: signal.Signals, code: int, last: str | None
) -> None:
    """Whatever ends the command; and while they work, none of the processes has a socket to connect to."""
    out = Path(shutil.copytree(finished, tmp_path / "out", ignore=shutil.ignore_patterns("00001.json")))
    with claimed(out, range(1, 2)):
        process = begin(fleet(bundle, out, "--devices", 70, *MIX, "--workers", 2))
        workers = wait_for(lambda: len(found := workers_of(out)) == 2 and found, process)
        assert [listening(each) for each in (process.pid, *workers)] == [[], [], []]
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        asked = time.monotonic()
        wait_for(lambda: not workers_of(out))
        assert time.monotonic() - asked < 5  # a look each quarter of a second, on a busy machine
    assert process.returncode == code
    if last is not None:
        assert said.rstrip().splitlines()[-1] == last
        assert "Traceback" not in said


@LINUX
def test_a_socket_that_listens_is_noticed() -> None:
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [address.split(":")[0] for address in listening(process.pid)] == ["0100007F"]
        process.communicate(b"\n")


def test_a_worker_s_own_words_are_passed_on(bundle: Path, finished: Path, tmp_path: Path) -> None:
    """A reward function that raises, in a worker."""
    (tmp_path / "moody.py").write_text(
        "def likes(texts, actions, night, generator):\n    raise KeyError(0)\n"
    )
    out = Path(shutil.copytree(finished, tmp_path / "out", ignore=shutil.ignore_patterns("chunks")))
    plan = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps(plan | {"user": "moody:likes"}))
    command = fleet(bundle, out, "--devices", 70, "--user", "moody:likes", "--workers", 1, program=warm.PT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 4
    assert "a worker failed: the reward function moody:likes must not raise, got KeyError" in done.stderr
    assert "missing: devices 0-69;" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--user", "1*nobody"), "--user: a user must be"),
        (("--devices", 0), "--devices must be 1 or more"),
        (("--workers", 0), "--workers must be 1 or more"),
        (("--nights", 0), "nights must be 1 or more"),
    ],
)
def test_wrong_usage(bundle: Path, tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    done = run(pt("fleet", bundle, "--data", TEXTS, "--out", tmp_path / "out", *arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()
