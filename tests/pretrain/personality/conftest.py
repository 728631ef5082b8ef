"""One run and one bundle for most tests of the export."""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from personality_common.coreml.package import Package
from personality_common.coreml.program import main_block
from personality_common.coreml.values import read_value
from pretrain.personality.run import Run, load_run


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ct() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools

        return coremltools


@pytest.fixture(scope="session")
def run_folder(openai_run: Path) -> Path:
    return openai_run


@pytest.fixture(scope="session")
def run(run_folder: Path) -> Run:
    return load_run(run_folder)


@pytest.fixture(scope="session")
def values(run: Run) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy() for name, p in run.model.named_parameters()}


@pytest.fixture(scope="session")
def bundle(openai_bundle: Path) -> Path:
    return openai_bundle


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may spoil."""
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


@pytest.fixture(scope="session")
def read_manifest() -> Callable[[Path], dict[str, Any]]:
    return lambda bundle: json.loads((bundle / "manifest.json").read_text())


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., dict[str, torch.Tensor]]:
    """Compute a package's outputs with torch, op by op from its program: an interpreter for few ops."""

    def evaluate(
        package: Package, embedding: torch.Tensor, states: Mapping[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        block = main_block(package)
        known: dict[str, Any] = {"embedding": embedding, **(states or {})}
        for op in block.operations:
            inputs = {}
            for key, argument in op.inputs.items():
                (binding,) = argument.arguments
                inputs[key] = known[binding.name] if binding.name else _value(package, binding.value)
            known[op.outputs[0].name] = _compute(package, op, inputs)
        return {name: known[name] for name in block.outputs}

    return evaluate


def _value(package: Package, value: Any) -> Any:
    array = read_value(package, value)
    if array.dtype.kind == "O":
        return array.item()
    return torch.from_numpy(np.array(array)) if array.ndim else array.item()


def _compute(package: Package, op: Any, inputs: dict[str, Any]) -> Any:
    functional = torch.nn.functional
    match op.type:
        case "const":
            return _value(package, op.attributes["val"])
        case "linear":
            return functional.linear(inputs["x"], inputs["weight"], inputs["bias"])
        case "layer_norm":
            assert inputs["axes"].tolist() == [-1]
            gamma, beta = inputs["gamma"], inputs["beta"]
            return functional.layer_norm(inputs["x"], gamma.shape, gamma, beta, inputs["epsilon"])
        case "gelu":
            assert inputs["mode"] == "EXACT"
            return functional.gelu(inputs["x"])
        case "add":
            return inputs["x"] + inputs["y"]
        case "matmul":
            y = inputs["y"].mT if inputs["transpose_y"] else inputs["y"]
            return (inputs["x"].mT if inputs["transpose_x"] else inputs["x"]) @ y
        case "cast":
            return inputs["x"].to({"fp32": torch.float32, "fp16": torch.float16}[inputs["dtype"]])
        case "read_state":
            return inputs["input"]
    raise NotImplementedError(op.type)
