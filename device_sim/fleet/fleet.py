"""A fleet from its plan to its figures: prepare, start the workers, watch them, collect, and prove."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from device_sim.fleet.config import FleetConfig
from device_sim.fleet.lives import Lived, Traces
from device_sim.fleet.plan import PIECE, Plan, make_plan, save_array, write_plan
from device_sim.fleet.proof import Proof, prove
from device_sim.fleet.tables import all_texts, used_rows
from device_sim.fleet.verdict import kind_checks
from device_sim.fleet.worker import FAILURE_FILE
from device_sim.heads.shipped import open_shipped
from device_sim.simulate.texts import Embedder
from personality_common.bundle.bundle import VerifiedBundle
from personality_common.errors import DataError, ToolkitError
from personality_common.evidence.claims import Check
from personality_common.files.atomic import clear_unfinished, folder_lock, read_json_object
from personality_common.files.inside import refuse_links
from personality_common.runs.workers import Workers, started
from personality_common.terminal.progress import SILENT, Reporter
from personality_common.text.consent import ALLOW

LOG_FILE: Final = "workers.log"
ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Of a worker: one thread, as there are as many workers as cores, and the bits are those of one thread; and,
on Linux, large pages for what it allocates, since all that a night reads is more than 4 KiB pages are cached
for."""
_LOOK_S: Final = 0.2
"""Seconds between looks at the workers."""


@dataclass(frozen=True)
class Fleet:
    """What a fleet came to.

    Attributes:
        lived: every device, in order.
        seconds: from here to the last worker's end; 0 for a fleet that was finished already.
        device_nights: that were lived in that time.
    """

    plan: Plan
    bundle: VerifiedBundle
    lived: tuple[Lived, ...]
    traces: Traces
    proof: Proof
    seconds: float
    device_nights: int

    @property
    def checks(self) -> tuple[Check, ...]:
        """What a fleet claims."""
        return (self.proof.check, *kind_checks(self.plan, self.lived))


def simulate_fleet(config: FleetConfig, reporter: Reporter = SILENT) -> Fleet:
    """Live the lives that are missing from the work folder, and collect all of them.

    Raises:
        DataError: bundle or texts are malformed, or too few.
        MismatchError: the work folder is another fleet's, or the run is not the bundle's.
        ToolkitError: a worker failed, with the devices that are missing; or a device does not have the head
            that `pt simulate` gives it.
    """
    bundle = open_shipped(config.bundle)
    available, texts = all_texts(config.data, config.nights.nights * config.nights.interactions)
    embedder = Embedder(bundle, config.run, reporter, config.allow_remote_encoder)
    # Before any worker does, and without a word.
    embedder.open()
    with folder_lock(config.out):
        refuse_links(config.out)
        clear_unfinished(config.out)
        plan = make_plan(config, texts)
        write_plan(plan)
        if not plan.table_file("used").exists():
            save_array(plan.table_file("used"), used_rows(plan, available))
        started, missing = time.monotonic(), plan.missing()
        if missing:
            _work(plan, config.processes, config.allow_remote_encoder, reporter)
        seconds = time.monotonic() - started if missing else 0.0
        # Of a worker that was killed when it had made the tables of them, or failed with its work in place.
        shutil.rmtree(plan.pieces, ignore_errors=True)
        (plan.folder / FAILURE_FILE).unlink(missing_ok=True)
        lived, traces = _collect(plan)
        proof = prove(plan, bundle, available, embedder, texts, lived, reporter)
        nights = sum(len(plan.devices_of(chunk)) for chunk in missing) * plan.nights.nights
        return Fleet(plan, bundle, lived, traces, proof, seconds, nights)


def missing_devices(plan: Plan) -> str:
    """In words: ranges of devices whose lives are not there."""
    spans: list[list[int]] = []
    for chunk in plan.missing():
        devices = plan.devices_of(chunk)
        if spans and spans[-1][1] == devices.start - 1:
            spans[-1][1] = devices[-1]
        else:
            spans.append([devices.start, devices[-1]])
    return ", ".join(f"{first}-{last}" if first < last else str(first) for first, last in spans)


def _work(plan: Plan, processes: int, allow_remote: bool, reporter: Reporter) -> None:
    """Start workers, which share the work through the folder, and watch them to the last chunk."""
    (plan.folder / FAILURE_FILE).unlink(missing_ok=True)
    environments = [ENVIRONMENT] * processes
    log = plan.folder / LOG_FILE
    arguments = [str(plan.folder), *([ALLOW] if allow_remote else [])]
    with started("device_sim.fleet.worker", arguments, environments, log) as workers:
        _watch(plan, workers, reporter)
    if plan.missing():
        raise ToolkitError(_failure(plan))


def _watch(plan: Plan, workers: Workers, reporter: Reporter) -> None:
    """Until all workers have ended, or one has failed."""
    texts = len(np.load(plan.table_file("used"), mmap_mode="r"))
    if not plan.table_file("latents").exists():
        pieces = -(-texts // PIECE)
        with reporter.stage("embedding", texts, "texts") as stage:
            shown = 0
            while workers.running and not plan.table_file("latents").exists():
                done = sum(plan.piece_file("latents", piece).exists() for piece in range(pieces))
                if done > shown:
                    stage.advance(min(done * PIECE, texts) - min(shown * PIECE, texts))
                    shown = done
                time.sleep(_LOOK_S)

    def device_nights(chunks: Iterable[int]) -> int:
        return sum(len(plan.devices_of(chunk)) for chunk in chunks) * plan.nights.nights

    left = set(plan.missing())
    with reporter.stage("living", device_nights(left), "device-nights") as stage:
        running = True
        while running:
            running = workers.running
            done_now = [chunk for chunk in left if plan.chunk_file(chunk).exists()]
            left.difference_update(done_now)
            stage.advance(device_nights(done_now))
            if running:
                time.sleep(_LOOK_S)


def _failure(plan: Plan) -> str:
    said = plan.folder / FAILURE_FILE
    why = f": {said.read_text().strip()}" if said.exists() else f", see {plan.folder / LOG_FILE}"
    return (
        f"all devices must live to the end, and a worker failed{why}; missing: devices"
        f" {missing_devices(plan)}; the same command goes on with them"
    )


def _collect(plan: Plan) -> tuple[tuple[Lived, ...], Traces]:
    lived: list[Lived] = []
    traces = Traces.empty(len(plan.kinds), plan.nights.nights)
    for chunk in range(plan.chunks):
        file = plan.chunk_file(chunk)
        document = read_json_object(file)
        try:
            found = [Lived(**{**one, "gains": tuple(one["gains"])}) for one in document["devices"]]
            traces.add(Traces(**document["traces"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file}: not the lives of a fleet's devices; remove it: {error!r}") from None
        if [one.device for one in found] != list(plan.devices_of(chunk)):
            raise DataError(f"{file}: must hold devices {plan.devices_of(chunk)}; remove it and run again")
        lived += found
    return tuple(lived), traces
