"""The router against its rules alone, on families that were held out whole, and on cases that no choice saw.

    python tests/benchmarks/bench_router.py [--seeds 0 1]

Prints JSON. In each of 8 folds regression, temperature and threshold are fitted without the families
that are scored; the cases, `fixtures/router-cases.toml`, go through the router that ships. The ratio is the
rules' error over the router's, on records where it does not abstain.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from device_sim.companion.router.fitting import fit, folds
from device_sim.companion.router.flags import LABELS, heuristic
from device_sim.companion.router.records import Record, read_records, read_seed
from device_sim.companion.router.router import Route, Router
from personality_common.text.encoder import load_encoder

CASES = Path(__file__).resolve().parents[2] / "fixtures" / "router-cases.toml"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    seeds = parser.parse_args().seeds
    records, cases = read_seed(), read_records(CASES)
    encoder = load_encoder("minilm", "cpu", torch.float32)
    embeddings = encoder.encode([one.text for one in records])
    rows = []
    for seed in seeds:
        routes: list[Route | None] = [None] * len(records)
        for train, test in folds(records, 8, seed):
            router = Router(fit([records[i] for i in train], embeddings[train], encoder.identity, seed))
            for i in test:
                routes[i] = router.route(records[i].text, embeddings[i])
        rows += score("seed", seed, records, routes)
    shipped = Router.open(encoder.identity)
    embedded = encoder.encode([one.text for one in cases])
    rows += score(
        "cases", None, cases, [shipped.route(c.text, e) for c, e in zip(cases, embedded, strict=True)]
    )
    report: dict[str, Any] = {"records": len(records), "families": len({one.family for one in records})}
    report["rows"] = rows
    report["ratios"] = {
        f"rules' error over the router's, {name}": float(
            np.mean([r["rules error"] for r in rows if r["records"] == name])
            / max(1e-3, np.mean([r["error"] for r in rows if r["records"] == name]))
        )
        for name in ("seed", "seed, hard", "cases", "cases, hard")
    }
    print(json.dumps(report, indent=2))


def score(
    name: str, seed: int | None, records: Sequence[Record], routes: Sequence[Route | None]
) -> list[dict[str, Any]]:
    """Shares of all records, and of the hard ones."""
    hard = np.array([one.hard for one in records])
    rules_wrong = np.array([heuristic(one.text) != one.label for one in records])
    found = [route for route in routes if route is not None]
    forced = np.array(
        [max(LABELS, key=r.scores.__getitem__) != one.label for one, r in zip(records, found, strict=True)]
    )
    abstained = np.array([route.abstained for route in found])
    rows = []
    for kind, part in ((name, np.ones(len(records), bool)), (f"{name}, hard", hard)):
        answered = part & ~abstained
        rows.append(
            {
                "seed": seed,
                "records": kind,
                "n": int(part.sum()),
                "rules error": float(rules_wrong[part].mean()),
                "rules error where the router answers": float(rules_wrong[answered].mean()),
                "error": float(forced[answered].mean()),
                "error without abstaining": float(forced[part].mean()),
                "abstained": float(abstained[part].mean()),
            }
        )
    return rows


if __name__ == "__main__":
    main()
