"""Memory of the agreement on distinct texts, by the number of processes.

    python tests/benchmarks/bench_agreement.py [--texts 200000 1000000] [--processes 1 2 4]

Prints JSON; Linux only. N processes read a source of generated records together (`read_corpus`, all of it but
for the parsing of a file), 5% of them repeats of a text that the next process has. A process's memory is
its resident memory beyond what it had before: the most that it ever was, and what is left of it while the
corpus is held. `bytes_a_text` are those that a process needs more for the most texts than for the fewest, for
each text more of its share; `projected_gb` are for a billion texts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import pretrain.data.corpus as corpora
from personality_common.runs.processes import join_processes
from pretrain.data.conversations import DataConfig
from pretrain.data.sources import NumberedRecords, Part

BILLION = 1_000_000_000
REPEATED = 20
"""One of so many texts comes twice."""


def resident(which: str) -> int:
    """Bytes: VmRSS, now, or VmHWM, the most since the process's program began."""
    found = re.search(rf"^{which}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def share(texts: int, rank: int, size: int) -> Part:
    """Every size-th record of all."""

    def read() -> NumberedRecords:
        for number, record in enumerate(range(rank, texts + texts // REPEATED, size), 1):
            text = record if record < texts else (record + 1) % texts
            yield number, {"text": f"text {text}"}

    return Part("generated", "record", read, size, rank)


def one_process(texts: int) -> dict[str, Any]:
    """Read, of those that are started with the environment of torchrun; figures of this one."""
    torch.set_num_threads(1)
    config = DataConfig("generated", max_samples=None)
    with join_processes() as processes, tempfile.TemporaryDirectory() as folder:
        parts = [share(texts, processes.rank, processes.size)]
        before, began = resident("VmRSS"), time.process_time()
        with (
            patch.object(corpora, "open_sources", lambda *_: parts),
            corpora.read_corpus(config, 0.05, Path(folder), processes) as corpus,
        ):
            taken = time.process_time() - began
            assert len(corpus.keys) == texts
            assert corpus.summary.repeats == texts // REPEATED
            return {
                "answers_for": len(corpus.keys.own),
                "most_mib": round((resident("VmHWM") - before) / (1 << 20), 1),
                "held_mib": round((resident("VmRSS") - before) / (1 << 20), 1),
                "cpu_seconds": round(taken, 2),
                "fingerprint": corpus.fingerprint,
            }


def together(texts: int, size: int) -> dict[str, Any]:
    """So many processes, and of their figures the largest."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--one", str(texts)],
            env=os.environ | ({**job, "RANK": str(rank)} if size > 1 else {}),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    printed = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit(1)
    found = [json.loads(text) for text in printed]
    largest = {name: max(one[name] for one in found) for name in found[0]}
    return {"texts": texts, "processes": size} | largest


def project(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the rows of one number of processes, by rising texts."""
    fewest, most = rows[0], rows[-1]
    size = most["processes"]
    more = (most["texts"] - fewest["texts"]) / size
    need = {
        name: (most[f"{name}_mib"] - fewest[f"{name}_mib"]) * (1 << 20) / more for name in ("most", "held")
    }
    return {
        "processes": size,
        "bytes_a_text": {name: round(value, 1) for name, value in need.items()},
        "projected_gb": {name: round(value * BILLION / size / 1e9, 1) for name, value in need.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_process(options.one)))
        return
    rows = [together(texts, size) for size in options.processes for texts in sorted(options.texts)]
    assert len({(row["texts"], row.pop("fingerprint")) for row in rows}) == len(options.texts)
    projected = [project([row for row in rows if row["processes"] == size]) for size in options.processes]
    few, many = projected[0], projected[-1]
    report = {
        "measured": rows,
        "a_billion": projected,
        "ratios": {
            f"memory at the most, {few['processes']} processes over each of {many['processes']}": round(
                few["projected_gb"]["most"] / many["projected_gb"]["most"], 2
            ),
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
