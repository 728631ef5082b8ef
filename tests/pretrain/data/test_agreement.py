"""Texts and labels that processes agree upon, each with the keys of a range: what a plain loop finds."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import socket
import sys
import tempfile
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from personality_common.runs.processes import ALONE, Processes, join_processes
from pretrain.data import agreement
from pretrain.data import spool as spools
from pretrain.data.agreement import agree, agree_on_labels, fingerprint_of
from pretrain.data.conversations import LabelReader
from pretrain.data.keys import text_key
from pretrain.data.spool import TextSpool
from pretrain.data.spread import Spread, shuffled

CASES = 40
PATIENCE = 600


class Record(NamedTuple):
    reader: int
    place: int
    turns: list[tuple[str, list[int]]]
    """Texts and their labels."""


class Case(NamedTuple):
    records: list[Record]
    max_samples: int | None
    at_once: int


def drawn(seed: int, size: int) -> Case:
    """Records by place, of texts many of which come again, in shares as uneven as chance has it."""
    draws = random.Random(seed)
    place, records = 0, []
    busy = draws.sample(range(size), draws.randint(1, size))
    for _ in range(draws.choice((1, 5, 60))):
        place += draws.choice((1, 1, 2, 1 << 40))
        turns = [
            (f"text {draws.randrange(80)}", draws.sample(range(9), draws.choice((0, 0, 2))))
            for _ in range(draws.randrange(5))
        ]
        records.append(Record(draws.choice(busy), place, turns))
    return Case(records, draws.choice((None, 1, 3, 20, 1000)), draws.choice((3, 7, 1 << 18)))


def held_out(text: str) -> bool:
    return text.endswith("3")


def agreed(case: Case, processes: Processes) -> dict[str, Any]:
    """Of one process, from its own records."""
    with tempfile.TemporaryDirectory() as folder, closing(TextSpool(Path(folder))) as spool:
        return agreed_from(spool, case, processes)


def agreed_from(spool: TextSpool, case: Case, processes: Processes) -> dict[str, Any]:
    agreement.ROUND_TEXTS = spools.RUN_TEXTS = case.at_once  # type: ignore[misc]
    labels = LabelReader({})
    for record in case.records:
        if record.reader != processes.rank:
            continue
        for text, tokens in record.turns:
            key = text_key(text)
            spool.add(text, key, record.place, held_out(text))
            labels.add(key, tokens, record.place)
    found = agree(spool, case.max_samples, processes)
    spread = Spread(found.keys, processes)
    pairs = agree_on_labels(labels, found.keys, spread.start, found.last, processes)
    wanted = np.random.default_rng(processes.rank).integers(0, max(1, len(spread)), 5 * processes.rank)
    wanted = wanted if len(spread) else wanted[:0]
    return {
        "own": [*spool.texts(found.own)],
        "own_keys": spool.field("key", found.own).tolist(),
        "repeats": spool.repeats,
        "keys": found.keys.tolist(),
        "held_out": found.held_out.tolist(),
        "found": found.found,
        "labels": pairs.tolist(),
        "fingerprint": fingerprint_of(found.keys, processes),
        "asked": wanted.tolist(),
        "taken": spread.take(wanted).tolist(),
        "first": spread.first(4).tolist(),
    }


def work(rank: int, size: int, port: int, cases: list[Case], results: Any) -> None:
    """What torchrun would start."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    with join_processes() as processes:
        results.send([agreed(case, processes) for case in cases])


def together(size: int, cases: list[Case]) -> list[list[dict[str, Any]]]:
    """By case, then by process."""
    if size == 1:
        return [[agreed(case, ALONE)] for case in cases]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    pipes = [fork.Pipe(duplex=False) for _ in range(size)]
    jobs = [fork.Process(target=work, args=(r, size, port, cases, pipes[r][1])) for r in range(size)]
    for job in jobs:
        job.start()
    try:
        assert all(receive.poll(PATIENCE) for receive, _ in pipes)
        by_process = [receive.recv() for receive, _ in pipes]
    finally:
        for job in jobs:
            job.join(PATIENCE)
    assert [job.exitcode for job in jobs] == [0] * size
    return [[results[i] for results in by_process] for i in range(len(cases))]


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded torch")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("size", [1, 2, 3])
def test_any_number_of_processes_agree_on_what_a_loop_finds(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "ROUND_TEXTS", agreement.ROUND_TEXTS)
    monkeypatch.setattr(spools, "RUN_TEXTS", spools.RUN_TEXTS)
    cases = [drawn(seed, size) for seed in range(CASES)]
    left_out = 0
    for case, results in zip(cases, together(size, cases), strict=True):
        first: dict[str, Record] = {}
        last, everything = 1 << 62, set()
        for record in case.records:
            for text, _ in record.turns:
                everything.add(text)
                if len(first) != case.max_samples and text not in first:
                    first[text] = record
                    if len(first) == case.max_samples:
                        last = record.place
        left_out += len(everything) > len(first)
        by_key = sorted(first, key=text_key)
        keys = [text_key(text) for text in by_key]
        labels = {
            (by_key.index(text), token)
            for record in case.records
            for text, tokens in record.turns
            for token in tokens
            if text in first and record.place <= last
        }
        for rank, result in enumerate(results):
            texts = [(t, r.place >> 40) for r in case.records if r.reader == rank for t, _ in r.turns]
            firsts = Counter(dict(reversed(texts)).values())
            assert result["repeats"] == Counter(part for _, part in texts) - firsts
            assert result["own"] == [text for text in by_key if first[text].reader == rank]
            assert result["own_keys"] == [text_key(text).rstrip(b"\0") for text in result["own"]]
            assert result["found"] == len(everything)
            assert [tuple(pair) for pair in result["labels"]] == sorted(labels)
            assert result["fingerprint"] == hashlib.sha256(b"".join(keys)).hexdigest()
            assert [key.ljust(16, b"\0") for key in result["taken"]] == [keys[i] for i in result["asked"]]
            assert [key.ljust(16, b"\0") for key in result["first"]] == keys[:4]
            assert all(rank << 128 <= int.from_bytes(k, "big") * size < (rank + 1) << 128
                       for k in (key.ljust(16, b"\0") for key in result["keys"]))  # fmt: skip
        held = [key.ljust(16, b"\0") for result in results for key in result["keys"]]
        assert held == keys
        assert [side for r in results for side in r["held_out"]] == [held_out(text) for text in by_key]
        assert all(a < b for a, b in pairwise(held))
    assert left_out > 3


def test_an_order_is_numpy_s_own() -> None:
    for count in (0, 1, 1000):
        ours = shuffled(np.random.default_rng(5), count)
        assert ours.dtype == np.uint32
        assert np.array_equal(ours, np.random.default_rng(5).permutation(count))
