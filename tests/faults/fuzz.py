"""`python tests/faults/fuzz.py --minutes N [--seed N]`: mutants of what may come from outside, for so long.

Each is opened as the commands open it, in a child with little memory and little time. It must be taken or
refused in one clear line. What is not (another exception, a crash, beyond the limits) is kept, and told; then
the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import mutants
import numpy as np
import scenarios_device
import small_model

from device_sim.fleet.plan import read_plan
from device_sim.heads.heads import open_heads
from device_sim.heads.shipped import open_shipped
from device_sim.mil import Limits, load_mil
from grpo.feedback import read_feedback
from personality_common.cli import LONGEST_LINE
from personality_common.contract import EMBEDDING, EMBEDDING_DIM, MODEL_PACKAGE
from personality_common.coreml.describe import describe
from personality_common.coreml.package import Package
from personality_common.coreml.proto import Model_pb2
from personality_common.coreml.writing import MODEL_FILE, WEIGHTS_FILE
from personality_common.errors import ToolkitError
from personality_common.inspection.reading import inspect_path
from personality_common.terminal.progress import SILENT
from personality_common.vocabulary import load_vocabulary
from pretrain.data.conversations import DataConfig, read_texts
from pretrain.personality.embedding_cache import EmbeddingCache
from pretrain.personality.run import load_run

SMALL: Final = Limits(value_bytes=1 << 24, live_bytes=1 << 26, seconds=2)
MEMORY: Final = 1 << 30
"""Bytes that a child may have beyond what it starts with."""
SECONDS: Final = 20
"""For one mutant."""
AT_ONCE: Final = 50
"""Mutants for one child."""
EMBEDDINGS: Final = np.linspace(-1, 1, 2 * EMBEDDING_DIM, dtype=np.float32).reshape(2, -1)

Change = Callable[[bytes, random.Random], bytes]


class Target(NamedTuple):
    """A file below a folder, ways to change it, and what reads the folder."""

    folder: Path
    file: str
    changes: tuple[Change, ...]
    read: Callable[[Path], object]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/faults/fuzz.py")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="of the first child")
    options = parser.parse_args()
    found, outcomes, seed = targets(), Counter[str](), options.seed
    kept = Path(tempfile.gettempdir()) / "fuzz-failures"
    print(f"{len(found)} files, from seed {seed}", flush=True)
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        target = found[seed % len(found)]
        outcomes.update(batch(target, seed, kept))
        seed += 1
    print(", ".join(f"{kind} {count:,}" for kind, count in sorted(outcomes.items())))
    bad = outcomes.total() - outcomes["taken"] - outcomes["refused"]
    print(f"{outcomes.total():,} tries, {bad} failures" + (f", kept in {kept}" if bad else ""))
    return int(bad > 0)


def targets() -> list[Target]:
    """One of each folder that may come from outside."""
    made = small_model.INPUTS / "mutated"
    run = shutil.copytree(small_model.trained(0), made / "run")
    bundle = shutil.copytree(scenarios_device.shipped(), made / "bundle")
    scenarios_device.before(made / "simulation")
    scenarios_device.live(made / "fleet")
    store = shutil.copytree(made / "simulation" / "out" / "heads", made / "store")
    data = made / "data"
    data.mkdir()
    (data / "texts.jsonl").write_bytes(Path(small_model.texts(6)).read_bytes())
    tokens = list(load_vocabulary().tokens)
    candidates = [{"tokens": tokens[i : i + 3], "reward": float(i)} for i in range(2)]
    feedback = shutil.copytree(data, made / "feedback")
    (feedback / "texts.jsonl").rename(feedback / "feedback.jsonl")
    interaction = {"id": "1", "text": "x", "candidates": candidates}
    (feedback / "feedback.jsonl").write_text(json.dumps(interaction))
    text = (mutants.flip, mutants.cut, mutants.restate, mutants.restate)
    weights = (mutants.flip, mutants.cut, mutants.reheaded, mutants.reheaded)
    package = bundle / MODEL_PACKAGE
    version = next((store / "versions").iterdir()).relative_to(store)
    shard = next(run.rglob("shard-*.npy")).relative_to(run)
    return [
        *(Target(run, name, text, opened_run) for name in ("run.json", "personality-tokens.json")),
        *(Target(run, path.name, weights, opened_run) for path in sorted(run.glob("*.safetensors"))),
        Target(run, str(shard), (mutants.flip, mutants.cut), opened_cache),
        *(Target(bundle, name, text, opened_bundle) for name in ("manifest.json", "golden/golden.json")),
        Target(package, "Manifest.json", text, opened_package),
        Target(package, MODEL_FILE, (mutants.flip, mutants.cut, fields), opened_package),
        Target(package, WEIGHTS_FILE, (mutants.flip, mutants.cut), opened_package),
        *(Target(store, name, text, opened_store) for name in ("store.json", f"{version}/record.json")),
        Target(store, f"{version}/head.safetensors", weights, opened_store),
        Target(made / "fleet" / "out", "plan.json", text, opened_fleet),
        Target(data, "texts.jsonl", text, opened_data),
        Target(feedback, "feedback.jsonl", text, opened_feedback),
    ]  # fmt: skip


def fields(data: bytes, rng: random.Random) -> bytes:
    places = list(mutants.field_places(Model_pb2.Model.FromString(data)))
    return mutants.rewrite(data, rng, places)


def opened_run(folder: Path) -> None:
    inspect_path(folder)
    load_run(folder)


def opened_cache(folder: Path) -> None:
    EmbeddingCache(folder / "cache", small_model.encoder(), SILENT)


def opened_bundle(folder: Path) -> None:
    inspect_path(folder)
    open_shipped(folder)


def opened_package(folder: Path) -> None:
    describe(Package.open(folder), fingerprints=True)
    load_mil(folder, limits=SMALL).predict({EMBEDDING: EMBEDDINGS})


def opened_store(folder: Path) -> None:
    store = open_heads(folder)
    store.audit()
    for line in store.versions():
        store.load(line.version)
    store.rollback()


def opened_fleet(folder: Path) -> None:
    plan = read_plan(folder)
    plan.missing()
    len(plan.kind_of)


def opened_data(folder: Path) -> None:
    read_texts(DataConfig(str(folder / "texts.jsonl"), skip_bad_records=True))
    read_texts(DataConfig(str(folder / "texts.jsonl")))


def opened_feedback(folder: Path) -> None:
    read_feedback(folder / "feedback.jsonl", load_vocabulary().tokens)


def batch(target: Target, seed: int, kept: Path) -> Iterator[str]:
    """Outcomes of some mutants, tried in one child."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fuzz.", dir=memory) as place:
        log = Path(place, "outcomes")
        child = os.fork()
        if not child:
            code = 1
            try:
                _try_all(target, seed, Path(place), log)
                code = 0
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        outcomes = log.read_text().split() if log.exists() else []
        if ended:
            outcomes.append("crashed")
        yield from outcomes
        if any(outcome not in ("taken", "refused") for outcome in outcomes):
            name = f"{target.folder.name}-{Path(target.file).name}-{seed}"
            shutil.copytree(place, kept / name, dirs_exist_ok=True)
            print(f"{name}: {Counter(outcomes)}, ended with {ended}", flush=True)


def _try_all(target: Target, seed: int, place: Path, log: Path) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    rng = random.Random(seed)
    original = (target.folder / target.file).read_bytes()
    with log.open("a") as said:
        for _ in range(AT_ONCE):
            shutil.rmtree(place / "copy", ignore_errors=True)
            # A mutant is written to a new file: the last one may still be mapped.
            shutil.copytree(target.folder, place / "copy", symlinks=True)
            (place / "copy" / target.file).write_bytes(rng.choice(target.changes)(original, rng))
            signal.alarm(SECONDS)
            said.write(f"{_outcome(target, place / 'copy')}\n")
            signal.alarm(0)
            said.flush()
            if (place / "failure").exists():
                return


def _outcome(target: Target, copy: Path) -> str:
    try:
        target.read(copy)
    except (ToolkitError, OSError) as error:
        # `pt` shows what is not to be printed as \\x1b.
        if len(str(error)) < LONGEST_LINE:
            return "refused"
        (copy.parent / "failure").write_text(f"a line that is too long: {error}")
        return "unclear"
    except Exception:
        (copy.parent / "failure").write_text(traceback.format_exc())
        return "raised"
    return "taken"


if __name__ == "__main__":
    sys.exit(main())
