"""How far the kernels are from their references: `python tests/device_sim/mil/mil_report.py [examples]`."""

import sys
from collections import defaultdict

import mil_quiet  # noqa: F401
from mil_cases import CASES
from mil_harness import run_case


def main(examples: int) -> None:
    families: dict[str, list] = defaultdict(list)
    for case in CASES:
        families[case.op].append(run_case(case, examples))
    print(f"{'op':40} {'cases':>6} {'Apple':>6} {'worst':>9} {'torch':>6} {'worst':>9}")
    totals = {"cases": 0, "apple": 0, "torch": 0}
    worst = {"apple": (0.0, ""), "torch": (0.0, "")}
    for op, tallies in families.items():
        row = {"cases": sum(t.examples for t in tallies)}
        far = {}
        for who in ("apple", "torch"):
            row[who] = sum(t.compared[who] for t in tallies)
            far[who] = max(t.worst[who] for t in tallies)
            worst[who] = max(worst[who], (far[who], op))
        for key, count in row.items():
            totals[key] += count
        apple, other = (f"{row[who]:6} {far[who]:9.1e}" for who in ("apple", "torch"))
        print(f"{op:40} {row['cases']:6} {apple} {other}")
    print(f"\n{len(families)} ops, {totals['cases']} cases; worst |difference| / max(1, |reference|):")
    for who in ("apple", "torch"):
        print(f"  {who}: {worst[who][0]:.1e} ({worst[who][1]}) in {totals[who]} comparisons")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
