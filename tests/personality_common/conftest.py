"""Small real packages, written by coremltools once per test session."""

import struct
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def ct() -> ModuleType:
    """coremltools, which warns on import and during conversion about versions that work."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools

        return coremltools


@pytest.fixture(scope="session")
def packages(ct: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """mlp, int8 (ML Programs), head, classifier, trees (other kinds), pipeline, two (shared weights)."""
    folder = tmp_path_factory.mktemp("packages")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from coremltools.models.pipeline import Pipeline

        mlp = _mlp(ct)
        int8 = ct.optimize.coreml.linear_quantize_weights(
            mlp,
            ct.optimize.coreml.OptimizationConfig(
                global_config=ct.optimize.coreml.OpLinearQuantizerConfig(weight_threshold=64)
            ),
        )
        head = ct.models.MLModel(_head(ct))
        pipeline = Pipeline(
            [("embedding", ct.models.datatypes.Array(1, 16))], [("logits", ct.models.datatypes.Array(8))]
        )
        pipeline.add_model(mlp)
        pipeline.add_model(head)
        models = {
            "mlp.mlpackage": mlp,
            "int8.mlpackage": int8,
            "head.mlpackage": head,
            "pipeline.mlpackage": ct.models.MLModel(pipeline.spec, weights_dir=mlp.weights_dir),
            "two.mlpackage": ct.models.utils.make_pipeline(_mlp(ct, "x", "latent"), _mlp(ct, "latent", "y")),
        }
        for name, model in models.items():
            model.save(str(folder / name))
        for name, spec in {"head": _head(ct), "classifier": _classifier(ct), "trees": _trees(ct)}.items():
            ct.models.utils.save_spec(spec, str(folder / f"{name}.mlmodel"))
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="session")
def weights_of() -> Any:
    """Where a package made by coremltools has its weight file."""
    return lambda package: package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


@pytest.fixture(scope="session")
def milblob() -> Any:
    """Bytes of a weight file, written from the layout's description, apart from the library."""

    def write(entries: Iterable[tuple[int, bytes, int]]) -> bytes:
        """entries: (dtype code, data, padding bits)."""
        entries = list(entries)
        out = bytearray(struct.pack("<II", len(entries), 2).ljust(64, b"\0"))
        for code, data, padding in entries:
            out += b"\0" * (-len(out) % 64)
            out += struct.pack("<IIQQQ", 0xDEADBEEF, code, len(data), len(out) + 64, padding).ljust(64, b"\0")
            out += data
        return bytes(out)

    return write


def _mlp(ct: ModuleType, source: str = "embedding", target: str = "logits") -> Any:
    """(1..64, 16) -> (·, 16), with the same weights each time, so that two of them chain."""
    import torch

    class Mlp(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.backbone = torch.nn.Linear(16, 32)
            self.norm = torch.nn.LayerNorm(32)
            self.projection = torch.nn.Linear(32, 16, bias=False)
            self.output_bias = torch.nn.Parameter(torch.randn(16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.projection(self.norm(torch.relu(self.backbone(x)))) + self.output_bias

    return ct.convert(
        torch.jit.trace(Mlp().eval(), torch.randn(1, 16)),
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
        inputs=[ct.TensorType(source, (ct.RangeDim(1, 64, 1), 16))],
        outputs=[ct.TensorType(target)],
    )


def _head(ct: ModuleType) -> Any:
    datatypes, network = ct.models.datatypes, ct.models.neural_network
    builder = network.NeuralNetworkBuilder(
        [("latent", datatypes.Array(32))], [("logits", datatypes.Array(8))], disable_rank5_shape_mapping=True
    )
    weight = np.arange(256, dtype=np.float32).reshape(8, 32)
    builder.add_inner_product("projection", weight, np.ones(8, np.float32), 32, 8, True, "latent", "logits")
    builder.make_updatable(["projection"])
    builder.set_mean_squared_error_loss("loss", ("logits", datatypes.Array(8)))
    builder.set_sgd_optimizer(network.SgdParams(lr=1e-2, batch=8, momentum=0))
    builder.set_epochs(10)
    builder.spec.neuralNetwork.updateParams.optimizer.sgdOptimizer.learningRate.range.maxValue = 10
    return builder.spec


def _classifier(ct: ModuleType) -> Any:
    datatypes, network = ct.models.datatypes, ct.models.neural_network
    builder = network.NeuralNetworkBuilder(
        [("image", datatypes.Array(3, 8, 8))], [("scores", datatypes.Array(4))], mode="classifier"
    )
    kernel = np.arange(108, dtype=np.float32).reshape(3, 3, 3, 4)
    builder.add_convolution(
        "conv", 3, 4, 3, 3, 1, 1, "valid", 1, kernel, None, False, input_name="image", output_name="maps"
    )
    builder.add_pooling("pool", 6, 6, 1, 1, "AVERAGE", "VALID", "maps", "pooled")
    builder.add_softmax("softmax", "pooled", "scores")
    builder.set_class_labels(["a", "b", "c", "d"], "label", "scores")
    network.quantization_utils._quantize_spec_weights(builder.spec, 8, "_linear_quantization")
    return builder.spec


def _trees(ct: ModuleType) -> Any:
    from coremltools.models.tree_ensemble import TreeEnsembleRegressor

    trees = TreeEnsembleRegressor([("x", ct.models.datatypes.Double())], "y")
    trees.set_default_prediction_value(0.5)
    trees.add_branch_node(0, 0, 0, 1.0, "BranchOnValueLessThan", 1, 2)
    trees.add_leaf_node(0, 1, 2.0)
    trees.add_leaf_node(0, 2, 3.0)
    return trees.spec
