"""A worker: takes pieces of the plan until none is left. `pt fleet` starts some.

    python -m device_sim.fleet.worker FOLDER

helps along, from any machine that shares the folder; `pt fleet` with the same settings makes the report.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch

from device_sim.fleet.lives import BATCH, Device, Traces, live_together
from device_sim.fleet.plan import Plan, read_plan, texts_sha256
from device_sim.fleet.tables import Tables, all_texts, make_tables, rows_of
from device_sim.heads.shipped import open_shipped, shipped_reference
from device_sim.simulate.texts import Chosen
from device_sim.users.users import make_user
from grpo.learners import Learner, make_learner
from personality_common.bundle.bundle import VerifiedBundle
from personality_common.contract import MANIFEST_FILE
from personality_common.errors import MismatchError, ToolkitError
from personality_common.files.atomic import atomic_writer, file_sha256, write_json
from personality_common.terminal.signals import Ended
from personality_common.text.consent import ALLOW

FAILURE_FILE: Final = "failure.txt"
_PAUSE: Final = 0.1
"""Seconds before a look at whether another worker has finished what it held."""


def work(plan: Plan, allow_remote: bool = False) -> None:
    """Do what is neither done nor held by another worker, until nothing is left.

    Raises:
        MismatchError: bundle or texts are no longer those of the plan.
        ToolkitError: an update did nothing, or a reward function raised.
    """
    torch.set_num_threads(1)
    if file_sha256(plan.bundle / MANIFEST_FILE) != plan.bundle_sha256:
        raise MismatchError(f"{plan.bundle}: must be the bundle of {plan.folder}, and has changed since")
    bundle = open_shipped(plan.bundle)
    available, texts = all_texts(plan.data, plan.nights.nights * plan.nights.interactions)
    if texts_sha256(texts) != plan.texts_sha256:
        raise MismatchError(f"{plan.data}: must have the texts of {plan.folder}, and has changed since")
    make_tables(plan, bundle, texts, allow_remote)
    tables, learner = Tables(plan), make_learner(plan.learner, shipped_reference(bundle, plan.grpo))
    while missing := plan.missing():
        worked = False
        for chunk in missing:
            with plan.claim_chunk(chunk) as mine:
                if mine and not plan.chunk_file(chunk).exists():
                    live_chunk(plan, chunk, learner, bundle, available, tables)
                    worked = True
        if not worked:
            time.sleep(_PAUSE)


def live_chunk(
    plan: Plan, chunk: int, learner: Learner, bundle: VerifiedBundle, available: Chosen, tables: Tables
) -> None:
    """The lives of a chunk's devices, written when all of them are over."""
    devices, lived = plan.devices_of(chunk), []
    traces = Traces.empty(len(plan.kinds), plan.nights.nights)
    for start in range(devices.start, devices.stop, BATCH):
        batch = [
            make_device(plan, number, bundle, available, tables)
            for number in range(start, min(start + BATCH, devices.stop))
        ]
        found, summed = live_together(batch, learner, plan.nights, len(plan.kinds))
        lived += found
        traces.add(summed)
    document = {"devices": [asdict(one) for one in lived], "traces": traces.document()}
    write_json(plan.chunk_file(chunk), document)


def make_device(plan: Plan, number: int, bundle: VerifiedBundle, available: Chosen, tables: Tables) -> Device:
    """A phone on its first day; the same as `pt simulate` makes of the device's seed and user."""
    training, held_out = (tables.texts(rows) for rows in rows_of(plan, available, number))
    kind = plan.kind_of[number]
    user = make_user(plan.kinds[kind].user, tables.tokens, training.embeddings, plan.seed(number))
    return Device(number, plan.seed(number), kind, user, training, held_out)


def main() -> int:
    folder = Path(sys.argv[1])
    # One's own reward functions are found from here, as for `pt`.
    sys.path.insert(0, str(Path.cwd()))
    try:
        work(read_plan(folder), ALLOW in sys.argv[2:])
    except (ToolkitError, OSError) as error:
        with atomic_writer(folder / FAILURE_FILE) as file:
            file.write(f"{error}\n".encode())
        print(error, file=sys.stderr)
        return 1
    except Ended as ended:
        return ended.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
