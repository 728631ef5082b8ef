"""The router against its rules alone, on families that were held out whole.

    python tests/benchmarks/bench_router.py [--seeds 0 1]

Prints JSON. In each of 8 folds regression, temperature and threshold are fitted without the families
that are scored. The ratio is the rules' error over the router's, on records where it does not abstain.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch

from device_sim.companion.router.fitting import fit, folds
from device_sim.companion.router.flags import LABELS, heuristic
from device_sim.companion.router.records import read_seed
from device_sim.companion.router.router import Router
from personality_common.text.encoder import load_encoder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    seeds = parser.parse_args().seeds
    records = read_seed()
    encoder = load_encoder("minilm", "cpu", torch.float32)
    embeddings = encoder.encode([one.text for one in records])
    hard = np.array([one.hard for one in records])
    rules_wrong = np.array([heuristic(one.text) != one.label for one in records])
    report: dict[str, Any] = {"records": len(records), "families": len({one.family for one in records})}
    rows = []
    for seed in seeds:
        wrong, forced, abstained = (np.zeros(len(records), bool) for _ in range(3))
        for train, test in folds(records, 8, seed):
            router = Router(fit([records[i] for i in train], embeddings[train], encoder.identity, seed))
            for i in test:
                route = router.route(records[i].text, embeddings[i])
                best = max(LABELS, key=route.scores.__getitem__)
                forced[i] = best != records[i].label
                abstained[i] = route.abstained
                wrong[i] = forced[i] and not route.abstained
        for name, part in (("all", np.ones(len(records), bool)), ("hard", hard)):
            answered = part & ~abstained
            rows.append(
                {
                    "seed": seed,
                    "records": name,
                    "n": int(part.sum()),
                    "rules error": float(rules_wrong[part].mean()),
                    "rules error where the router answers": float(rules_wrong[answered].mean()),
                    "error": float(wrong[answered].mean()),
                    "error without abstaining": float(forced[part].mean()),
                    "abstained": float(abstained[part].mean()),
                }
            )
    report["rows"] = rows
    report["ratios"] = {
        f"rules' error over the router's, {name}": float(
            np.mean([r["rules error"] for r in rows if r["records"] == name])
            / max(1e-3, np.mean([r["error"] for r in rows if r["records"] == name]))
        )
        for name in ("all", "hard")
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
