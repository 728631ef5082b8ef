"""How far the kernels are from their references: `python tests/device_sim/mil/mil_report.py [examples]`."""

import sys
from collections import Counter, defaultdict
from typing import Any

import mil_quiet  # noqa: F401
from mil_cases import CASES
from mil_harness import run_case

WHO, TYPES = ("apple", "torch"), ("float32", "float16")


def main(examples: int) -> None:
    families: dict[str, list[Any]] = defaultdict(list)
    for case in CASES:
        families[case.op].append(run_case(case, examples))
    print(f"{'':40} {'':>6} {'coremltools':>26} {'torch':>26}")
    print(f"{'op':40} {'cases':>6}" + f" {'cases':>6} {'float32':>9} {'float16':>9}" * 2)
    totals: Counter[str] = Counter()
    worst: dict[tuple[str, str], tuple[float, str]] = {}
    for op, tallies in families.items():
        cases = sum(t.examples for t in tallies)
        totals["cases"] += cases
        line = f"{op:40} {cases:6}"
        for who in WHO:
            compared = sum(t.compared[who] for t in tallies)
            totals[who] += compared
            far = {dtype: max(t.worst[who, dtype] for t in tallies) for dtype in TYPES}
            for dtype in TYPES:
                worst[who, dtype] = max(worst.get((who, dtype), (0.0, "")), (far[dtype], op))
            line += f" {compared:6} {far['float32']:9.1e} {far['float16']:9.1e}"
        print(line)
    print(f"\n{len(families)} ops, {totals['cases']} cases; worst |difference| / max(1, |reference|):")
    for who in WHO:
        parts = [f"{dtype} {worst[who, dtype][0]:.1e} ({worst[who, dtype][1]})" for dtype in TYPES]
        print(f"  {who}: {', '.join(parts)} in {totals[who]} comparisons")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
