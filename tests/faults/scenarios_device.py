"""`pt simulate` and `pt fleet`, of short lives; a fleet's worker runs in the command's own process."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import scenarios_export
from harness import Scenario
from small_model import INPUTS, beyond, encoder, texts, trained, undisturbed

from device_sim.fleet import fleet, plan, proof, tables, worker
from device_sim.fleet.config import FleetConfig
from device_sim.fleet.fleet import simulate_fleet
from device_sim.heads.heads import open_heads
from device_sim.heads.shipped import head_fingerprint
from device_sim.runtimes.runtime import LoadedModel
from device_sim.simulate import simulation
from device_sim.simulate import texts as texts_
from device_sim.simulate.config import SimulateConfig
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from personality_common import contract
from personality_common.files.atomic import open_own, read_json_object, write_json

NIGHTS = NightsConfig(nights=1, interactions=2, group=2)
UPDATE = GRPOConfig(inner_iterations=1)


def latents_of(runtime: LoadedModel, embeddings: Any) -> Any:
    """No backbone, which takes most of the time: what is tried here needs no meaning."""
    return embeddings[:, : contract.LATENT_DIM].copy()


@contextmanager
def started(module: str, arguments: Sequence[str], environments: object, log: Path) -> Iterator[object]:
    """What a worker does, here: whatever kills one kills all."""
    os.close(open_own(log))
    sys.argv = [module, *arguments]
    with redirect_stderr(io.StringIO()):
        code = worker.main()
    yield SimpleNamespace(running=False, failed=(0,) if code else ())


vars(fleet).update(started=started)
vars(plan).update(CHUNK=1)
vars(texts_).update(load_run_encoder=encoder)
for module in (simulation, tables, proof):
    vars(module).update(latents_of=latents_of)


@cache
def shipped() -> Path:
    (INPUTS / "shipped").mkdir()
    scenarios_export.old(INPUTS / "shipped")
    return INPUTS / "shipped" / "bundle"


def simulate(folder: Path, seed: int) -> None:
    nights = replace(NIGHTS, seed=seed)
    config = SimulateConfig(
        shipped(), data=texts(12), run=trained(0), user="profile", nights=nights, grpo=UPDATE,
        out=folder / "out",
    )  # fmt: skip
    with simulation.simulate_phone(config) as (result, out):
        write_json(out / simulation.FIGURES_FILE, {"nights": len(result.nights)})


def simulated(folder: Path) -> tuple[str, ...]:
    """Fingerprints of the heads in the store, oldest first; () for no simulation."""
    out = folder / "out"
    if not out.exists():
        return ()
    assert read_json_object(out / simulation.FIGURES_FILE) == {"nights": 1}
    store = open_heads(out / "heads")
    assert not any(store.audit().damage.values())
    return tuple(head_fingerprint(store.load(line.version)) for line in store.versions())


def before(folder: Path) -> None:
    simulate(folder, seed=0)


def after(folder: Path) -> None:
    simulate(folder, seed=1)


def live(folder: Path) -> None:
    config = FleetConfig(
        shipped(), texts(12), devices=3, user="profile", run=trained(0), out=folder / "out", workers=1,
        nights=NIGHTS, grpo=UPDATE,
    )  # fmt: skip
    found = simulate_fleet(config)
    write_json(config.out / "fleet.json", {"devices": len(found.lived)})


def lived(folder: Path) -> tuple[str, ...]:
    """Fingerprints of the devices' heads, "" for those that have not lived to the end."""
    out = folder / "out"
    for path in out.rglob("*.npy"):
        np.load(path)
    for name in ("plan.json", "fleet.json"):
        assert not (out / name).exists() or read_json_object(out / name)
    chunks = [out / "chunks" / f"{chunk:05}.json" for chunk in range(3)]
    return tuple(read_json_object(path)["devices"][0]["head"] if path.exists() else "" for path in chunks)


def fewer(found: object, before: object, after: object) -> bool:
    """Devices that lived to the end have the heads that they should, and the others none."""
    assert isinstance(found, tuple)
    assert isinstance(after, tuple)
    return all(head in ("", wanted) for head, wanted in zip(found, after, strict=True))


def scenario(
    name: str,
    prepare: Callable[[Path], None],
    operate: Callable[[Path], None],
    state: Callable[[Path], tuple[str, ...]],
    between: Callable[[object, object, object], bool] = lambda found, before, after: False,
) -> Scenario:
    whole = undisturbed(operate, state)

    def warm(folder: Path) -> None:
        whole()  # what takes long the first time is in memory then, for all tries
        prepare(folder)

    def again(folder: Path, found: object) -> tuple[str, ...]:
        operate(folder)
        return whole()[0]

    def leftovers(folder: Path) -> list[str]:
        return beyond(folder, [whole()[1]])

    return Scenario(name, warm, operate, state, again, leftovers, between)


SCENARIOS = [
    scenario("simulate: over another", before, after, simulated),
    scenario("fleet", lambda folder: None, live, lived, fewer),
]
