"""Speed of the interpreter against PyTorch on the same cores, measured in one run.

    python tests/benchmarks/bench_mil.py [--rounds 100]

Prints JSON: for the personality model in float32 and float16, milliseconds of one prediction and
its share of torch eager's in float32, for batches of 1 and 64; milliseconds to load the package
once imports are done; the same for a MobileNet at batch 1 and for a decoder of some 770 operations; and
as `ratios` the interpreter's speed over torch's. Rounds of both sides
alternate, and the fastest of each counts: the others waited for a machine that is shared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mil_networks import IMAGE, TOKENS, VOCABULARY, Decoder, mobilenet
from suite import clock

from device_sim.mil import load_mil
from personality_common.contract import EMBEDDING, EMBEDDING_DIM, LOGITS
from pretrain.personality.model import PersonalityModel


def convert(model: torch.nn.Module, precision: str, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct

        batch = ct.RangeDim(1, 64, 1)
        package = ct.convert(
            torch.jit.trace(model, torch.zeros(2, EMBEDDING_DIM)),
            inputs=[ct.TensorType(EMBEDDING, shape=(batch, EMBEDDING_DIM), dtype=np.float32)],
            outputs=[ct.TensorType(LOGITS, dtype=np.float32)],
            compute_precision=getattr(ct.precision, precision),
            minimum_deployment_target=ct.target.iOS17,
            skip_model_load=True,
        )
    package.save(str(path))


def convert_fixed(model: torch.nn.Module, example: torch.Tensor, path: Path) -> int:
    """Of this shape alone, in float32; returns the number of operations but constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct

        package = ct.convert(
            torch.jit.trace(model, example),
            inputs=[ct.TensorType("x", shape=example.shape, dtype=example.numpy().dtype.type)],
            outputs=[ct.TensorType("y", dtype=np.float32)],
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS17,
            skip_model_load=True,
        )
    package.save(str(path))
    (block,) = package.get_spec().mlProgram.functions["main"].block_specializations.values()
    return sum(operation.type != "const" for operation in block.operations)


def compare_network(model: torch.nn.Module, example: torch.Tensor, path: Path, rounds: int) -> dict[str, Any]:
    operations = convert_fixed(model, example, path)
    interpreter, x = load_mil(path), example.numpy()
    times: dict[str, list[float]] = {"mil": [], "torch": []}
    for _ in range(rounds):
        times["mil"].append(milliseconds(partial(interpreter.predict, {"x": x})))
        times["torch"].append(milliseconds(partial(model, example)))
    mil, eager = (min(times[side]) for side in ("mil", "torch"))
    wanted = model(example).numpy()
    error = np.abs(interpreter.predict({"x": x})["y"] - wanted).max() / np.abs(wanted).max()
    return {
        "operations": operations,
        "mil_ms": round(mil, 2),
        "torch_ms": round(eager, 2),
        "mil_share_of_torch": round(mil / eager, 3),
        "max_error": float(f"{error:.1e}"),
    }


def milliseconds(call: Callable[[], Any]) -> float:
    now = clock(torch.get_num_threads())
    start = now()
    call()
    return (now() - start) * 1e3


def compare(model: torch.nn.Module, path: Path, rounds: int) -> dict[str, Any]:
    loads = [milliseconds(lambda: load_mil(path)) for _ in range(5)]
    interpreter = load_mil(path)
    result: dict[str, Any] = {"load_ms": round(min(loads), 1)}
    for batch in (1, 64):
        x = np.random.default_rng(0).normal(size=(batch, EMBEDDING_DIM)).astype(np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        tensor = torch.from_numpy(x)
        times: dict[str, list[float]] = {"mil": [], "torch": []}
        for _ in range(rounds):
            times["mil"].append(milliseconds(partial(interpreter.predict, {EMBEDDING: x})))
            times["torch"].append(milliseconds(partial(model, tensor)))
        mil, eager = (min(times[side]) for side in ("mil", "torch"))
        error = np.abs(interpreter.predict({EMBEDDING: x})[LOGITS] - model(tensor).numpy()).max()
        result[f"batch_{batch}"] = {
            "mil_ms": round(mil, 2),
            "torch_ms": round(eager, 2),
            "mil_share_of_torch": round(mil / eager, 4),
            "max_error": float(f"{error:.1e}"),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    model = PersonalityModel().eval()
    report: dict[str, Any] = {"threads": torch.get_num_threads()}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for precision in ("FLOAT32", "FLOAT16"):
            path = Path(folder) / f"{precision}.mlpackage"
            convert(model, precision, path)
            figures = report[precision.lower()] = compare(model, path, rounds)
            for batch in (1, 64):
                ratios[f"{precision.lower()}, batch {batch}"] = round(
                    1 / figures[f"batch_{batch}"]["mil_share_of_torch"], 3
                )
        networks = {
            "mobilenet": (mobilenet(), torch.randn(IMAGE)),
            "decoder": (Decoder(), torch.randint(VOCABULARY, TOKENS, dtype=torch.int32)),
        }
        for name, (network, example) in networks.items():
            path = Path(folder) / f"{name}.mlpackage"
            report[name] = compare_network(network.eval(), example, path, max(3, rounds // 5))
            ratios[name] = round(1 / report[name]["mil_share_of_torch"], 3)
    print(json.dumps(report | {"ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
