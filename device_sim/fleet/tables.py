"""The texts of all devices, embedded once, and what each device has of them."""

from __future__ import annotations

import shutil
import time
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from device_sim.fleet.plan import PIECE, Plan, save_array
from device_sim.heads.shipped import PART
from device_sim.runtimes.opening import open_runtime
from device_sim.simulate.texts import Chosen, Embedder, choose_rows, latents_of, split_texts
from device_sim.users.nights import Texts
from personality_common.bundle.bundle import VerifiedBundle
from personality_common.terminal.progress import SILENT

TABLES: Final = ("base", "latents")
_PAUSE: Final = 0.05
"""Seconds between looks at what other workers have done."""


def all_texts(data: str, needed: int) -> tuple[Chosen, tuple[str, ...]]:
    """Those to train on and those held out; and all of them in the order of the tables' rows."""
    available = split_texts(data, needed)
    return available, (*available.training, *available.held_out)


def rows_of(plan: Plan, available: Chosen, device: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of all texts, those that a device trains on and those that it is measured on."""
    needed = plan.nights.nights * plan.nights.interactions
    training, held_out = choose_rows(
        len(available.training), len(available.held_out), needed, plan.seed(device)
    )
    return training.numpy(), held_out.numpy() + len(available.training)


def used_rows(plan: Plan, available: Chosen) -> NDArray[np.int64]:
    """Sorted rows of the texts that some device needs."""
    used = np.zeros(len(available.training) + len(available.held_out), bool)
    for device in range(plan.devices):
        for rows in rows_of(plan, available, device):
            used[rows] = True
    return np.flatnonzero(used)


def make_tables(
    plan: Plan, bundle: VerifiedBundle, texts: tuple[str, ...], allow_remote: bool = False
) -> None:
    """Embed the texts and, after them, the tokens, each worker some pieces; returns when all are there."""
    used = np.load(plan.table_file("used"))
    items = [*(texts[i] for i in used), *bundle.vocabulary.tokens]
    embedder = runtime = None
    pieces = -(-len(items) // PIECE)
    missing = list(range(pieces))
    while not _merged(plan):
        for piece in missing:
            with plan.claim_piece(piece) as mine:
                if not mine or plan.piece_file("latents", piece).exists():
                    continue
                embedder = embedder or Embedder(bundle, plan.run, SILENT, allow_remote)
                runtime = runtime or open_runtime("mil", bundle.package(PART), bundle.places(PART))
                base, embeddings = embedder.embed(items[piece * PIECE :][:PIECE])
                save_array(plan.piece_file("base", piece), base)
                save_array(plan.piece_file("latents", piece), latents_of(runtime, embeddings))
        missing = [p for p in missing if not plan.piece_file("latents", p).exists()]
        if missing:
            time.sleep(_PAUSE)
        else:
            _merge(plan, pieces)


def _merged(plan: Plan) -> bool:
    return all(plan.table_file(name).exists() for name in TABLES)


def _merge(plan: Plan, pieces: int) -> None:
    with plan.claim_merge() as mine:
        if not mine:
            time.sleep(_PAUSE)
        elif not _merged(plan):
            for name in TABLES:
                parts = [np.load(plan.piece_file(name, piece)) for piece in range(pieces)]
                save_array(plan.table_file(name), np.concatenate(parts))
            shutil.rmtree(plan.pieces)


class Tables:
    """Memory-mapped, so that workers of one machine share them.

    Attributes:
        tokens: (V, d) base embeddings of the vocabulary.
    """

    def __init__(self, plan: Plan) -> None:
        self._used = np.load(plan.table_file("used"))
        self._base, self._latents = (np.load(plan.table_file(name), mmap_mode="r") for name in TABLES)
        self.tokens = torch.from_numpy(np.array(self._base[len(self._used) :]))

    def texts(self, rows: NDArray[np.int64]) -> Texts:
        """Of rows among all texts."""
        at = np.searchsorted(self._used, rows)
        return Texts(torch.from_numpy(self._latents[at]), torch.from_numpy(self._base[at]))
