"""How well `pt trace` predicts what a float16 conversion loses, over small models converted for real.

    python tests/benchmarks/bench_trace.py

Prints JSON: for each model of tests/device_sim/trace/float16_models.py the relative error of the output that
is predicted from its float32 package, and that of coremltools' float16 package; both against the float32
package in float64. `ratios` has the worst share of the smaller in the greater; 1 is a perfect prediction.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "device_sim" / "trace"))
from float16_models import MODELS, errors


def main() -> None:
    found = {name: errors(name) for name in MODELS}
    models = {
        name: {"predicted": float(f"{p:.2e}"), "real": float(f"{r:.2e}")} for name, (p, r) in found.items()
    }
    agreement = min(min(pair) / max(pair) for pair in found.values())
    ratios = {"predicted float16 error over real, worst": round(agreement, 4)}
    print(json.dumps({"models": models, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
